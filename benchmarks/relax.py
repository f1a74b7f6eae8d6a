"""Relaxations of rattled NaxFePO4: the batch relaxer beside FIRE, BFGS and CellAwareBFGS of ASE.

All relax the same starts with the same potential on one thread, to the same thresholds, and one
function judges what comes out: energy, largest force and largest stress by the stock calculator. A
final energy counts as equal where it is less than 1 meV per cell above the lowest that ASE's
optimizers found; where energies are more than 10 meV apart the structure ended in another basin,
and is counted there. FIRE is slow, so it relaxes only some starts; relaxations per
second, and how many times faster a method is than FIRE with the stock calculator, are those on
these starts for all methods.

usage: relax.py [POTENTIAL ...] [--rattles N] [--larger N] [--every N] [--json] [--output FOLDER]
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import typer
from ase import Atoms
from machine import describe_machine
from relax_runs import (
    ASE,
    BATCH,
    SETTINGS,
    Run,
    by_ase,
    by_batch,
    invariance,
    judged,
    shares,
    starts,
)
from relax_stock import Stock, stock_of

from gasearch.potentials.contract import Potential

POTENTIALS = ("pmmcs", "chgnet", "chgnet-nafepo4", "mace-nafepo4")
PACKAGES = ("gasearch", "torch", "ase", "chgnet", "mace-torch")
STOCK_FIRE = "FIRE, stock calculator"
_SAME, _OTHER_BASIN = 1e-3, 1e-2  # eV per cell
_BATCHES = (1, 8, 32)
_PLACES = (1, 4)
_CHEAP_RATTLES = 6
"""A potential without a stock calculator is cheap, and gets enough starts for a steady state."""


@dataclass(frozen=True, eq=False)
class Row:
    """One method and what it made of some of the starts.

    Parameters
    ----------
    runs
        By number of the start.
    cpu_s
        Processor time on the starts that FIRE relaxed too.
    """

    method: str
    runs: dict[int, Run]
    cpu_s: float


def compare(name: str, structures: list[Atoms], every: int) -> dict[str, Any]:
    """Return all measurements of one potential.

    Parameters
    ----------
    every
        FIRE relaxes each so-manieth start.
    """
    from gasearch.potentials.registry import load_potential

    potential = load_potential(name)
    by_batch(potential, structures[:1])  # warms up
    stock = stock_of(potential)
    slow = list(range(0, len(structures), every))
    rows = _rows(potential, stock, structures, slow)
    ends = {row.method: {k: judged(run, stock) for k, run in row.runs.items()} for row in rows}
    small = starts(_CHEAP_RATTLES if stock.is_ours else 1, 0)
    return {
        "potential": name,
        "atoms": [len(atoms) for atoms in structures],
        "slow": slow,
        "methods": [_summary(row, rows, ends, len(slow)) for row in rows],
        "calls": {row.method: {k: run.n_calls for k, run in row.runs.items()} for row in rows},
        "energies_eV": {
            method: {k: end["energy"] for k, end in found.items()} for method, found in ends.items()
        },
        "shares": shares(potential, small),
        "share_by_places": {
            str(places): shares(potential, small[:6], places)["potential"] for places in _PLACES
        },
        "invariance": invariance(potential, [structures[k] for k in slow]),
        "peak_MB": {str(batch): _peak_apart(name, batch) for batch in _BATCHES},
    }


def _rows(
    potential: Potential, stock: Stock, structures: list[Atoms], slow: list[int]
) -> list[Row]:
    """Relax with every method."""
    few = [structures[k] for k in slow]
    found = dict(enumerate(by_batch(potential, structures)))
    rows = [Row(BATCH, found, sum(run.cpu_s for run in by_batch(potential, few)))]
    for method in ASE:
        chosen = slow if method == "FIRE" else range(len(structures))
        rows.append(_ase_row(method, method, Stock.of(potential), structures, chosen, slow))
    if not stock.is_ours:
        rows.append(_ase_row(STOCK_FIRE, "FIRE", stock, structures, slow, slow))
    return rows


def _ase_row(
    label: str,
    method: str,
    stock: Stock,
    structures: list[Atoms],
    chosen: Sequence[int],
    slow: Sequence[int],
) -> Row:
    done = by_ase(method, stock, [structures[k] for k in chosen])
    runs = dict(zip(chosen, done, strict=True))
    return Row(label, runs, sum(runs[k].cpu_s for k in slow))


def _summary(
    row: Row, rows: list[Row], ends: dict[str, dict[int, dict[str, float]]], n_slow: int
) -> dict[str, Any]:
    mine = ends[row.method]
    best = [min(ends[m][k]["energy"] for m in ASE if k in ends[m]) for k in mine]
    above = np.array([end["energy"] for end in mine.values()]) - np.array(best)
    same_basin = np.abs(above) <= _OTHER_BASIN
    calls = np.array([run.n_calls for run in row.runs.values()])
    spent = {other.method: other.cpu_s for other in rows}
    fire_s = spent.get(STOCK_FIRE, spent["FIRE"])
    converged = [
        end["fmax"] <= 1.05 * SETTINGS.fmax and end["smax"] <= 1.05 * SETTINGS.smax
        for end in mine.values()
    ]
    return {
        "method": row.method,
        "starts": len(calls),
        "calls": float(calls.mean()),
        "most_calls": int(calls.max()),
        "converged": float(np.mean(converged)),
        "within_1_meV": int(np.sum(above[same_basin] < _SAME)),
        "same_basin": int(np.sum(same_basin)),
        "basin_lower": int(np.sum(above < -_OTHER_BASIN)),
        "basin_higher": int(np.sum(above > _OTHER_BASIN)),
        "relaxations_per_cpu_s": n_slow / row.cpu_s,
        "times_fire": fire_s / row.cpu_s,
    }


def peak(name: str, batch: int) -> float:
    """Return how far memory rises above the loaded model while so many structures relax, in MB."""
    from gasearch.potentials.registry import load_potential
    from gasearch.relax.batched.memory import BatchLimit
    from gasearch.relax.batched.relaxer import BatchRelaxer
    from gasearch.relax.settings import RelaxSettings

    potential = load_potential(name)
    structures = starts(3, 0)[:batch]
    before = _peak_mb()
    relaxer = BatchRelaxer(potential, RelaxSettings(max_calls=3), limit=BatchLimit(1e9, 1e9))
    list(relaxer.relax(enumerate(structures)))
    return round(_peak_mb() - before, 1)


def _peak_apart(name: str, batch: int) -> float:
    """Return what a process of its own measures."""
    command = [sys.executable, __file__, "--peak", name, str(batch)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(run.stdout.strip().splitlines()[-1])


def _peak_mb() -> float:
    """Return the largest memory of this process, without what its parent had before it began."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return float(fields["VmHWM"].split()[0]) / 1024


def main(
    potentials: Annotated[list[str] | None, typer.Argument(help="As in run.toml.")] = None,
    rattles: Annotated[int, typer.Option(help="Starts of each 28-atom decoration.")] = 1,
    larger: Annotated[int, typer.Option(help="Starts of 56, and of 84 atoms, at each x.")] = 1,
    every: Annotated[int, typer.Option(help="FIRE relaxes each so-manieth start.")] = 5,
    first: Annotated[int, typer.Option(help="Take no more starts than this: for a trial.")] = 10**6,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for relax.json, .md, .png.")] = None,
) -> None:
    """Measure, and print a table."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    structures = starts(rattles, larger)[:first]
    found: list[dict[str, Any]] = []
    for name in potentials or POTENTIALS:
        found.append(compare(name, structures, every))
        document = _document(found)
        if output is not None:
            _write(document, output)
    print(json.dumps(document, indent=2) if json_output else _tables(found))


def _document(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"machine": describe_machine(PACKAGES), "fmax": SETTINGS.fmax, "potentials": found}


def _write(document: dict[str, Any], folder: Path) -> None:
    found = document["potentials"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "relax.json").write_text(json.dumps(document, indent=2) + "\n")
    (folder / "relax.md").write_text(_tables(found) + "\n")
    draw(found, folder / "relax.png")


def _tables(found: list[dict[str, Any]]) -> str:
    return "\n\n".join(_table(one) for one in found)


_HEAD = """\
| method | starts | calls | most | converged | within 1 meV | other basin, lower / higher | \
relaxations per CPU second | against FIRE |
|---|---:|---:|---:|---:|---:|---:|---:|---:|"""


def _table(found: dict[str, Any]) -> str:
    sizes = Counter(found["atoms"])
    told = ", ".join(f"{count} of {size} atoms" for size, count in sorted(sizes.items()))
    head = f"{found['potential']}: starts {told}; fmax {SETTINGS.fmax} eV/Å; one CPU thread"
    rows = [_row(row) for row in found["methods"]]
    share = ", ".join(f"{name} {100 * value:.1f} %" for name, value in found["shares"].items())
    few = ", ".join(f"{n} at once {100 * v:.1f} %" for n, v in found["share_by_places"].items())
    memory = ", ".join(f"{size}: {value:.0f}" for size, value in found["peak_MB"].items())
    alike = found["invariance"]
    apart = f"{alike['largest_shift_A']:.1e} Å, {alike['largest_energy_meV_per_atom']:.1e} meV/atom"
    told = [
        f"The last two columns are over the {len(found['slow'])} starts that FIRE relaxed.",
        f"Time: {share}; the potential with few structures: {few}.",
        f"Memory (MB) by structures at once: {memory}.",
        f"Alone against in a crowd of {alike['structures']}: {apart}.",
    ]
    return "\n".join([head, "", _HEAD, *rows, "", *told])


def _row(row: dict[str, Any]) -> str:
    calls = f"| {row['method']} | {row['starts']} | {row['calls']:.1f} | {row['most_calls']} "
    ends = f"| {100 * row['converged']:.0f} % | {row['within_1_meV']} of {row['same_basin']} "
    basins = f"| {row['basin_lower']} / {row['basin_higher']} "
    return f"{calls}{ends}{basins}| {row['relaxations_per_cpu_s']:.2f} | {row['times_fire']:.1f} |"


_TICKS = (10, 20, 50, 100, 200, 500)


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Draw the calls of each relaxation, by method."""
    from matplotlib.figure import Figure

    from gasearch.display.plotting import BLUE, GREY

    columns = min(2, len(found))
    height = math.ceil(len(found) / columns)
    figure = Figure(figsize=(4.5 * columns, 3.5 * height), layout="constrained")
    panels = figure.subplots(height, columns, squeeze=False, sharey=True).flat
    for axes, one in zip(panels, found, strict=False):
        methods = [BATCH, *ASE]
        for k, method in enumerate(methods):
            calls = np.array(list(one["calls"][method].values()))
            aside = np.linspace(-0.2, 0.2, len(calls))
            color = BLUE if method == BATCH else GREY
            axes.plot(k + aside, calls, "o", ms=4, alpha=0.6, color=color)
            axes.hlines(calls.mean(), k - 0.3, k + 0.3, color=color)
        axes.set_xticks(range(len(methods)), methods, rotation=20)
        axes.set_yscale("log")
        axes.set_yticks(_TICKS, [str(tick) for tick in _TICKS])
        axes.minorticks_off()
        axes.set_ylabel(f"force calls to fmax {SETTINGS.fmax} eV/Å")
        axes.set_title(one["potential"], fontsize=10)
    figure.savefig(path, dpi=200)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        print(peak(sys.argv[2], int(sys.argv[3])))
    else:
        app = typer.Typer(pretty_exceptions_enable=False)
        app.command()(main)
        app()
