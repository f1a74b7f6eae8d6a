"""Time and memory of one evaluation: energy, forces, stress and moments of 28-atom NaFePO4.

Each row is a process of its own on one thread: so no row profits from memory that another one
warmed up. Rows come in turns, several rounds, and the fastest round counts, as other programs only
ever slow one down. `chgnet (stock)` is the package's own calculator, its batched prediction for 16.

usage: network_cost.py [POTENTIAL ...] [--no-stock] [--json] [--output FOLDER]
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from ase import Atoms
from machine import describe_machine

BATCHES = (1, 16)
PACKAGES = ("gasearch", "torch", "chgnet", "mace-torch", "schnetpack")
STOCK = "chgnet (stock)"
_CALLS = 12


def crystal() -> Atoms:
    """Return rattled NaFePO4 with its labels."""
    from gasearch.crystal.decoration import Decoration
    from gasearch.crystal.host import Host
    from gasearch.crystal.io.builtin import builtin_host

    host = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
    rng = np.random.default_rng(0)
    atoms: Atoms = Decoration.random(host, host.composition_at(1.0), rng).to_atoms()
    atoms.positions += rng.normal(0.0, 0.02, atoms.positions.shape)
    return atoms


def measure(potential: str, batch: int) -> dict[str, float]:
    """Return CPU time per structure and how far memory rises above the loaded model."""
    evaluate = _stock(batch) if potential == STOCK else _ours(potential, batch)
    before = _peak_mb()
    evaluate()
    calls = max(3, _CALLS // batch)
    start = time.process_time()
    for _ in range(calls):
        evaluate()
    spent = time.process_time() - start
    return {
        "ms_per_structure": round(1000 * spent / calls / batch, 2),
        "peak_MB": round(_peak_mb() - before, 1),
    }


def _ours(name: str, batch: int) -> Callable[[], object]:
    from gasearch.potentials.contract import Batch
    from gasearch.potentials.registry import load_potential

    potential = load_potential(name)
    structures = Batch.from_atoms([crystal()] * batch)
    _warm_up(lambda: potential.evaluate(Batch.from_atoms([_two_atoms()])))
    return lambda: potential.evaluate(structures)


def _stock(batch: int) -> Callable[[], object]:
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()):
        from chgnet.model.dynamics import CHGNetCalculator
        from pymatgen.io.ase import AseAtomsAdaptor

        calculator = CHGNetCalculator(use_device="cpu")
    atoms = crystal()
    structures = [AseAtomsAdaptor.get_structure(atoms)] * batch
    _warm_up(lambda: calculator.calculate(_two_atoms()))
    if batch == 1:
        return lambda: calculator.calculate(atoms)
    return lambda: calculator.model.predict_structure(structures, batch_size=batch)


def _warm_up(call: Callable[[], object]) -> None:
    """Load what is loaded at the first call, on a crystal that takes no memory."""
    with contextlib.suppress(Exception):
        call()


def _two_atoms() -> Atoms:
    atoms = Atoms("FeO", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[4, 4, 4], pbc=True)
    atoms.set_initial_charges([2, -2])
    return atoms


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(
    potentials: Annotated[list[str] | None, typer.Argument(help="As in run.toml.")] = None,
    stock: Annotated[bool, typer.Option(help="The package's own calculator beside it.")] = True,
    rounds: Annotated[int, typer.Option(help="The fastest counts.")] = 3,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for network_cost.*.")] = None,
) -> None:
    """Measure, and print a table."""
    names = ([STOCK] if stock else []) + (potentials or ["chgnet"])
    cases = [(name, batch) for name in names for batch in BATCHES]
    found = [[_apart(*case) for case in cases] for _ in range(rounds)]
    rows = [
        {"potential": name, "batch": batch, **_best([turn[k] for turn in found])}
        for k, (name, batch) in enumerate(cases)
    ]
    document = {"machine": describe_machine(PACKAGES), "rounds": rounds, "rows": rows}
    table = _table(rows)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "network_cost.json").write_text(json.dumps(document, indent=2) + "\n")
        (output / "network_cost.md").write_text(table + "\n")
    print(json.dumps(document, indent=2) if json_output else table)


def _apart(name: str, batch: int) -> dict[str, float]:
    """Return what a process of its own measures."""
    command = [sys.executable, __file__, "--measure", name, str(batch)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    result: dict[str, float] = json.loads(run.stdout.strip().splitlines()[-1])
    return result


def _best(turns: list[dict[str, float]]) -> dict[str, float]:
    return {key: min(turn[key] for turn in turns) for key in turns[0]}


def _table(rows: list[dict[str, Any]]) -> str:
    first = {row["batch"]: row for row in reversed(rows)}
    lines = [
        "Energy, forces, stress and moments of 28 atoms, one CPU thread",
        "",
        "| potential | batch | ms per structure | to the first | peak, MB | to the first |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        base = first[row["batch"]]
        faster = row["ms_per_structure"] / base["ms_per_structure"]
        smaller = row["peak_MB"] / max(base["peak_MB"], 1.0)
        lines.append(
            f"| {row['potential']} | {row['batch']} | {row['ms_per_structure']:.1f} "
            f"| {faster:.2f} | {row['peak_MB']:.0f} | {smaller:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
    else:
        app = typer.Typer(pretty_exceptions_enable=False)
        app.command()(main)
        app()
