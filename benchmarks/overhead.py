"""Engine time per candidate: everything but the relaxation itself.

A search with a potential of zero cost: proposals, leases, commits, results, ranks, and the hull
at the end of each window, in one driver process. Beside it, in the same run, what `ase_ga` spends
per candidate on its database and population. Each figure is the mean over a window of the last
candidates before the stated size; a window of the search is also given as a ratio to the first.

usage: overhead.py [--sizes 1000,10000,100000] [--json] [--output FOLDER]
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from free import FreeExecutor
from machine import describe_machine

from gasearch.analysis.findings import Findings
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.crystal.io.hosts import host_to_json
from gasearch.operators.contract import default_operators
from gasearch.relax.settings import RelaxSection
from gasearch.run.execution_section import ExecutionSection
from gasearch.search.dispatcher import Dispatcher, DispatchSettings
from gasearch.search.proposer import Proposer
from gasearch.search.search import Search, SearchLimits
from gasearch.search.visibility import Immediate
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import LevelRecord, Outcome, RunRecord

IN_FLIGHT = 64
PACKAGES = ("gasearch", "numpy", "sqlalchemy", "ase", "ase-ga")
SUPERCELL = (1, 2, 2)  # 16 formula units, 112 atoms: 5 million decorations at x = 1/2 alone


def time_gasearch(sizes: Sequence[int], window: int, folder: Path) -> list[dict[str, Any]]:
    """Return the mean milliseconds per candidate in a window before each size."""
    host = Host.build(builtin_host("nafepo4-olivine"), SUPERCELL)
    store = _new_store(host, folder / "search.db")
    stamps = [(time.perf_counter(), time.process_time())]

    def observe(outcomes: Sequence[Outcome]) -> None:
        stamps.extend([(time.perf_counter(), time.process_time())] * len(outcomes))

    _search(host, store, max(sizes), observe).run()
    rows = []
    for size in sizes:
        wall, cpu = np.subtract(stamps[size], stamps[size - window]) * 1000 / window
        rows.append(_measured("gasearch", size, wall, cpu))
    began = time.perf_counter()
    Findings(store).ranked()
    rows[-1]["hull_of_all_ms"] = 1000 * (time.perf_counter() - began)
    rows[-1]["file_MB"] = (folder / "search.db").stat().st_size / 1e6
    began = time.perf_counter()
    _search(host, store, max(sizes), observe).run()
    rows[-1]["resume_s"] = time.perf_counter() - began
    store.close()
    return rows


def _measured(engine: str, size: int, wall_ms: float, cpu_ms: float) -> dict[str, Any]:
    return {
        "engine": engine,
        "candidates": size,
        "ms_per_candidate": float(wall_ms),
        "cpu_ms_per_candidate": float(cpu_ms),
    }


def _new_store(host: Host, path: Path) -> PopulationStore:
    run = RunRecord(host_to_json(host), host.atoms, {"search.x": "all"}, {}, 1, 16, {})
    level = LevelRecord("free", "free", "", (0.0, 0.0), ranks_only=True)
    return PopulationStore.create(path, run, level)


def _search(host: Host, store: PopulationStore, budget: int, observe: Any) -> Search:
    stop = threading.Event()
    settings = DispatchSettings(1, RelaxSection(), ExecutionSection(lease_s=1e6))
    dispatcher = Dispatcher(host, store, FreeExecutor(), settings, stop)
    return Search(
        store,
        Proposer(host, default_operators(), host.compositions),
        Immediate(),
        dispatcher,
        SearchLimits(budget, IN_FLIGHT, stagnation=0, tight_window_per_fu=-1.0),
        observe,
    )


def time_ase_ga(sizes: Sequence[int], window: int, folder: Path) -> list[dict[str, Any]]:
    """Return what `ase_ga` spends per candidate: child, database, population.

    The steady-state loop of its tutorials, with the population updated after each candidate, and
    its own slab permutation as the only operator, on the same cell.
    """
    from ase_ga.data import DataConnection, PrepareDB
    from ase_ga.population import RankFitnessPopulation
    from ase_ga.slab_operators import RandomSlabPermutation

    host = Host.build(builtin_host("nafepo4-olivine"), SUPERCELL)
    path = folder / "ase_ga.db"
    prepared = PrepareDB(str(path), simulation_cell=host.atoms)
    rng = np.random.default_rng(0)
    state = np.random.RandomState(0)
    filled, rows = 0, []
    for size in sizes:
        _fill(prepared, host, size - window - filled, rng)
        filled = size
        connection = DataConnection(str(path))
        population = RankFitnessPopulation(
            data_connection=connection,
            population_size=50,
            variable_function=lambda atoms: atoms.get_chemical_formula(),
        )
        population.update()
        operator = RandomSlabPermutation(rng=state)
        began = np.array([time.perf_counter(), time.process_time()])
        for _ in range(window):
            _ase_ga_step(connection, population, operator, rng)
        ended = np.array([time.perf_counter(), time.process_time()])
        rows.append(_measured("ase_ga", size, *(ended - began) * 1000 / window))
    return rows


def _fill(prepared: Any, host: Host, number: int, rng: np.random.Generator) -> None:
    """Add relaxed candidates quickly, as `PrepareDB` does for a starting population."""
    for _ in range(number):
        composition = host.compositions[int(rng.integers(len(host.compositions)))]
        prepared.add_relaxed_candidate(_scored(_random_atoms(host, composition, rng), rng))


def _random_atoms(host: Host, composition: Any, rng: np.random.Generator) -> Atoms:
    from gasearch.crystal.decoration import Decoration

    return Decoration.random(host, composition, rng).to_atoms()


def _scored(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    energy = float(rng.normal()) - 100.0
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((len(atoms), 3)))
    atoms.info.setdefault("key_value_pairs", {})["raw_score"] = -energy
    atoms.info.setdefault("data", {})
    return atoms


def _ase_ga_step(connection: Any, population: Any, operator: Any, rng: np.random.Generator) -> None:
    child, description = operator.get_new_individual(population.get_two_candidates()[:1])
    connection.add_unrelaxed_candidate(child, description=description)
    connection.add_relaxed_step(_scored(child, rng))
    population.update()


def main(
    sizes: Annotated[str, typer.Option(help="Comma-separated.")] = "1000,10000,100000",
    ase_ga_sizes: Annotated[str, typer.Option(help="Comma-separated.")] = "1000,3000",
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for overhead.json and .md.")] = None,
) -> None:
    """Measure, and print a table."""
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp(prefix="gasearch-overhead-"))
    try:
        wanted = [int(size) for size in sizes.split(",")]
        rows = time_gasearch(wanted, window=min(640, wanted[0] // 2), folder=folder)
        rows += time_ase_ga([int(s) for s in ase_ga_sizes.split(",")], window=5, folder=folder)
    finally:
        shutil.rmtree(folder)
    document = {"machine": describe_machine(PACKAGES), "in_flight": IN_FLIGHT, "rows": rows}
    table = _table(rows)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "overhead.json").write_text(json.dumps(document, indent=2) + "\n")
        (output / "overhead.md").write_text(table + "\n")
    print(json.dumps(document, indent=2) if json_output else table)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    first = rows[0]["ms_per_candidate"]
    head = f"Engine time per candidate, {IN_FLIGHT} in flight (one commit of proposals and leases, "
    lines = [
        f"{head}one of results, per batch), 112-atom cell",
        "",
        "| engine | candidates | ms per candidate | of it CPU | ratio to the first row |",
        "|---|---:|---:|---:|---:|",
        *[_row(row, first) for row in rows],
        "",
        *[_totals(row) for row in rows if "resume_s" in row],
    ]
    return "\n".join(lines)


def _row(row: dict[str, Any], first: float) -> str:
    ratio = row["ms_per_candidate"] / first
    name = f"| {row['engine']} | {row['candidates']:,}"
    times = f"{row['ms_per_candidate']:.2f} | {row['cpu_ms_per_candidate']:.2f}"
    return f"{name} | {times} | {ratio:.1f} |"


def _totals(row: dict[str, Any]) -> str:
    resume, hull = f"resuming takes {row['resume_s']:.1f} s", f"{row['hull_of_all_ms']:.0f} ms"
    size = f"{row['file_MB']:.0f} MB"
    return f"At {row['candidates']:,}: {resume}, the hull of all {hull}, the file has {size}."


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
