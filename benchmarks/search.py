"""Evaluations until the ground state: gasearch, the paper's `ase_ga` search, random sampling.

    python benchmarks/search.py                      everything, about a quarter of an hour
    python benchmarks/search.py --method gasearch    one method; other rows of the file are kept

Writes search.json, search.md and search-success.png. All numbers but wall times repeat exactly
with the same versions.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from ase_ga_baseline import AseGaRun
from landscapes import NAMES, Landscape, make_landscape
from machine import describe_machine
from search_report import draw_success_curves, markdown, quantile, statistics

from gasearch.operator import WeightedOperator, default_operators
from gasearch.proposing import ProposalSettings, Proposer
from gasearch.store.records import Outcome

RESULTS = Path(__file__).parent / "results"
METHODS = ("gasearch", "ase_ga", "random")
POPULATIONS = (20, 50, 200)
FIRST_PILOT = 1001
PACKAGES = ("gasearch", "numpy", "scipy", "ase", "ase-ga", "spglib")

Run = Callable[[int], Iterator[int]]
"""From a seed to the landscape's rows of the structures that are evaluated, in that order."""


def random_run(landscape: Landscape, seed: int) -> Iterator[int]:
    """Yield all distinct decorations as even draws from the raw ones would first meet them.

    Sorting exponential waiting times is the same as drawing and skipping repeats.
    """
    waiting = np.random.default_rng(seed).exponential(size=len(landscape))
    return iter(np.argsort(waiting / landscape.orbit_sizes).tolist())


def gasearch_run(
    landscape: Landscape, operators: Sequence[WeightedOperator], seed: int
) -> Iterator[int]:
    """Yield what gasearch proposes while each result is known before the next proposal."""
    composition = landscape.composition
    settings = ProposalSettings(end_members=False)
    proposer = Proposer(landscape.host, operators, seed, (composition,), settings)
    for number in itertools.count(1):
        proposed = proposer.propose(number)
        if proposed is None:
            return
        row = int(landscape.rows(proposed.decoration.occupation[None])[0])
        yield row
        energy = float(landscape.energies[row]) * landscape.host.n_formula_units
        proposer.add_outcome(Outcome(number, number, composition.formula, energy, "ok", 1))


def ase_ga_run(landscape: Landscape, population: int, seed: int) -> Iterator[int]:
    """Yield what the paper's search would relax; see `ase_ga_baseline.py`."""
    return AseGaRun(landscape, seed, population).evaluations()


def evaluations_needed(
    landscape: Landscape, run: Iterator[int], cap: int
) -> tuple[int | None, int]:
    """Return how many evaluations a run took to the ground state, and how many were distinct.

    The first is None for a run that did not find it within the cap.
    """
    goal = landscape.ground_state
    met: set[int] = set()
    for number, row in enumerate(itertools.islice(run, cap), start=1):
        met.add(row)
        if row == goal:
            return number, len(met)
    return None, len(met)


def repeat(
    landscape: Landscape, run: Run, seeds: Sequence[int], cap: int, label: str
) -> dict[str, Any]:
    """Return the evaluations of many runs with their statistics and the wall time."""
    started = time.perf_counter()
    evaluations, distinct = [], []
    for seed in seeds:
        needed, n_distinct = evaluations_needed(landscape, run(seed), cap)
        evaluations.append(needed)
        distinct.append(n_distinct)
        print(f"{landscape.name} {label} seed {seed}: {needed}", file=sys.stderr)
    return {
        "evaluations": evaluations,
        "distinct": distinct,
        **statistics(evaluations),
        "median_distinct": quantile(distinct, 0.5),
        "wall_s": round(time.perf_counter() - started, 1),
    }


def pilot_runs(landscape: Landscape, seeds: Sequence[int], cap: int) -> list[dict[str, Any]]:
    """Return the pilots of `ase_ga` with each population size; the best is marked."""
    pilots = []
    for population in POPULATIONS:
        run = functools.partial(ase_ga_run, landscape, population)
        result = repeat(landscape, run, seeds, cap, f"pilot of ase_ga, population {population}")
        capped = [cap if n is None else n for n in result["evaluations"]]
        mean = sum(capped) / len(capped)
        pilots.append(
            {"landscape": landscape.name, "population": population, "capped_mean": mean, **result}
        )
    best = min(pilots, key=lambda pilot: pilot["capped_mean"])
    return [{**pilot, "is_chosen": pilot is best} for pilot in pilots]


def measure(
    landscape: Landscape, method: str, settings: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return one row of the table, and the pilot runs that went before it."""
    pilots: list[dict[str, Any]] = []
    label = method
    if method == "ase_ga":
        pilots = pilot_runs(landscape, settings["pilot_seeds"], settings["cap"])
        population = next(pilot["population"] for pilot in pilots if pilot["is_chosen"])
        run = functools.partial(ase_ga_run, landscape, population)
        label = f"ase_ga, population {population}"
    elif method == "gasearch":
        run = functools.partial(gasearch_run, landscape, default_operators())
    else:
        run = functools.partial(random_run, landscape)
    result = repeat(landscape, run, range(1, settings["runs"] + 1), settings["cap"], label)
    return {"landscape": landscape.name, "method": method, "label": label, **result}, pilots


def describe_landscape(landscape: Landscape) -> dict[str, Any]:
    """Return what the report says of a landscape."""
    goal = landscape.ground_state
    return {
        "name": landscape.name,
        "seed": None if landscape.name == "coulomb" else landscape.seed,
        "spread_meV_per_fu": 1000 * landscape.spread,
        "gap_meV_per_fu": 1000 * landscape.gap,
        "n_minima": landscape.n_minima,
        "ground_state": landscape.fingerprint(goal),
        "orbit_size": int(landscape.orbit_sizes[goal]),
        "energy_eV_per_fu": float(landscape.energies[goal]),
    }


def build_document(
    landscapes: Sequence[Landscape],
    methods: Sequence[str],
    settings: dict[str, Any],
    earlier: dict[str, Any],
) -> dict[str, Any]:
    """Run the methods and return the document; rows of other methods come from the earlier one."""
    rows = {(row["landscape"], row["method"]): row for row in earlier.get("rows", [])}
    pilots = {n.name: _of(n, earlier.get("pilots", [])) for n in landscapes}
    operators = earlier.get("operators", {})
    for landscape, method in itertools.product(landscapes, methods):
        rows[landscape.name, method], new_pilots = measure(landscape, method, settings)
        if new_pilots:
            pilots[landscape.name] = new_pilots
        if method == "gasearch":
            operators = {operator.name: operator.weight for operator in default_operators()}
    order = [key for key in itertools.product([n.name for n in landscapes], METHODS) if key in rows]
    return {
        "settings": settings,
        "machine": describe_machine(PACKAGES),
        "operators": operators,
        "landscapes": [describe_landscape(landscape) for landscape in landscapes],
        "rows": [rows[key] for key in order],
        "pilots": [pilot for n in landscapes for pilot in pilots[n.name]],
    }


def _of(landscape: Landscape, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry["landscape"] == landscape.name]


def earlier_document(file: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what the file holds where its settings are the same, else nothing."""
    if not file.exists():
        return {}
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document if document["settings"] == settings else {}


def main(
    method: Annotated[list[str] | None, typer.Option(help="Of gasearch, ase_ga, random.")] = None,
    runs: Annotated[int, typer.Option(help="Runs per row, with seeds 1, 2, ...")] = 30,
    pilots: Annotated[int, typer.Option(help="Pilot runs per population of ase_ga.")] = 10,
    cap: Annotated[int, typer.Option(help="Evaluations per run; 0: as many as are distinct.")] = 0,
    supercell: Annotated[tuple[int, int, int], typer.Option()] = (1, 3, 1),
    x: Annotated[str, typer.Option(help="Filled share of the Na sites.")] = "2/3",
    landscape_seed: Annotated[int, typer.Option(help="Of the random terms.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON document.")] = False,
) -> None:
    """Count evaluations until the ground state, on two enumerated landscapes."""
    methods = tuple(method or METHODS)
    if unknown := sorted(set(methods) - set(METHODS)):
        raise typer.BadParameter(f"unknown method {unknown[0]!r}; known: {', '.join(METHODS)}.")
    landscapes = [make_landscape(name, supercell, x, landscape_seed) for name in NAMES]
    host, composition = landscapes[0].host, landscapes[0].composition
    settings = {
        "supercell": list(supercell),
        "x": x,
        "n_raw": host.n_raw(composition),
        "n_distinct": host.n_distinct(composition),
        "runs": runs,
        "pilot_seeds": [FIRST_PILOT + n for n in range(pilots)],
        "cap": cap or host.n_distinct(composition),
        "landscape_seed": landscape_seed,
    }
    file = output / "search.json"
    document = build_document(landscapes, methods, settings, earlier_document(file, settings))
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1)
    file.write_text(text + "\n", encoding="utf-8")
    (output / "search.md").write_text(markdown(document), encoding="utf-8")
    draw_success_curves(document, output / "search-success.png")
    print(text if as_json else markdown(document))


if __name__ == "__main__":
    typer.run(main)
