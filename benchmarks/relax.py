"""Relaxations of rattled NaxFePO4: the batch relaxer beside FIRE, BFGS and CellAwareBFGS of ASE.

All relax the same starts with the same potential on one thread, to the same thresholds, and one
function judges what comes out: energy, largest force and largest stress by the stock calculator. A
final energy counts as equal where it is less than 1 meV per cell above the lowest that ASE's
optimizers found; where energies are more than 10 meV apart the structure ended in another basin,
and is counted there. The speed is that against FIRE with the stock calculator.

usage: relax.py [POTENTIAL ...] [--rattles N] [--larger N] [--json] [--output FOLDER]
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import typer
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
    stock_calculator,
)

PACKAGES = ("gasearch", "torch", "ase", "chgnet", "mace-torch")
STOCK_FIRE = "FIRE, stock calculator"
_SAME, _OTHER_BASIN = 1e-3, 1e-2  # eV per cell
_BATCHES = (1, 4, 16)


def compare(name: str, rattles: int, larger: int, first: int) -> dict[str, Any]:
    """Return all measurements of one potential."""
    from gasearch.potentials.calculator import PotentialCalculator
    from gasearch.potentials.registry import load_potential

    potential = load_potential(name)
    structures = starts(rattles, larger)[:first]
    by_batch(potential, structures[:1])  # warms up
    stock = stock_calculator(potential)
    runs = {BATCH: by_batch(potential, structures)}
    for method in ASE:
        runs[method] = by_ase(method, PotentialCalculator(potential), structures)
    if not isinstance(stock, PotentialCalculator):
        runs[STOCK_FIRE] = by_ase("FIRE", stock, structures)
    ends = {method: [judged(run, stock) for run in found] for method, found in runs.items()}
    return {
        "potential": name,
        "structures": len(structures),
        "methods": [_summary(method, runs, ends) for method in runs],
        "calls": {method: [run.n_calls for run in found] for method, found in runs.items()},
        "shares": shares(potential, structures),
        "invariance": invariance(potential, structures[:6] + structures[-1:]),
        "peak_MB": {str(batch): _peak_apart(name, batch) for batch in _BATCHES},
    }


def _summary(
    method: str, runs: dict[str, list[Run]], ends: dict[str, list[dict[str, float]]]
) -> dict[str, Any]:
    energies = {key: np.array([end["energy"] for end in found]) for key, found in ends.items()}
    best = np.min([energies[key] for key in ASE], axis=0)
    above = energies[method] - best
    same_basin = np.abs(above) <= _OTHER_BASIN
    calls = np.array([run.n_calls for run in runs[method]])
    cpu_s = sum(run.cpu_s for run in runs[method])
    fire_s = sum(run.cpu_s for run in runs.get(STOCK_FIRE, runs["FIRE"]))
    converged = [
        end["fmax"] <= 1.05 * SETTINGS.fmax and end["smax"] <= 1.05 * SETTINGS.smax
        for end in ends[method]
    ]
    return {
        "method": method,
        "calls": float(calls.mean()),
        "most_calls": int(calls.max()),
        "converged": float(np.mean(converged)),
        "within_1_meV": float(np.mean(above[same_basin] < _SAME)),
        "basin_lower": int(np.sum(above < -_OTHER_BASIN)),
        "basin_higher": int(np.sum(above > _OTHER_BASIN)),
        "relaxations_per_cpu_s": len(calls) / cpu_s,
        "times_fire": fire_s / cpu_s,
    }


def peak(name: str, batch: int) -> float:
    """Return how far memory rises above the loaded model while so many structures relax, in MB."""
    from gasearch.potentials.registry import load_potential
    from gasearch.relax.batched.limit import BatchLimit
    from gasearch.relax.batched.relaxer import BatchRelaxer
    from gasearch.relax.settings import RelaxSettings

    potential = load_potential(name)
    structures = starts(2, 0)[:batch]
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
    larger: Annotated[int, typer.Option(help="Starts of 56, and of 84 atoms.")] = 0,
    first: Annotated[int, typer.Option(help="Take no more starts than this: for a trial.")] = 10**6,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for relax.json, .md, .png.")] = None,
) -> None:
    """Measure, and print a table."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = [compare(name, rattles, larger, first) for name in potentials or ["pmmcs", "chgnet"]]
    document = {"machine": describe_machine(PACKAGES), "fmax": SETTINGS.fmax, "potentials": found}
    table = "\n\n".join(_table(one) for one in found)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "relax.json").write_text(json.dumps(document, indent=2) + "\n")
        (output / "relax.md").write_text(table + "\n")
        draw(found, output / "relax.png")
    print(json.dumps(document, indent=2) if json_output else table)


_HEAD = """\
| method | calls | most | converged | within 1 meV | other basin, lower / higher | relaxations per \
CPU second | against FIRE |
|---|---:|---:|---:|---:|---:|---:|---:|"""


def _table(found: dict[str, Any]) -> str:
    size = f"{found['structures']} starts, fmax {SETTINGS.fmax} eV/Å, one CPU thread"
    rows = [_row(row) for row in found["methods"]]
    share = ", ".join(f"{name} {100 * value:.1f} %" for name, value in found["shares"].items())
    memory = ", ".join(f"{size}: {value:.0f}" for size, value in found["peak_MB"].items())
    alike = found["invariance"]
    apart = f"{alike['largest_shift_A']:.1e} Å, {alike['largest_energy_meV_per_atom']:.1e} meV/atom"
    told = [
        f"Time: {share}. Memory (MB) by structures at once: {memory}.",
        f"Alone against in a crowd of {alike['structures']}: {apart}.",
    ]
    return "\n".join([f"{found['potential']}: {size}", "", _HEAD, *rows, "", *told])


def _row(row: dict[str, Any]) -> str:
    calls = f"| {row['method']} | {row['calls']:.1f} | {row['most_calls']} "
    ends = f"| {100 * row['converged']:.0f} % | {100 * row['within_1_meV']:.0f} % "
    basins = f"| {row['basin_lower']} / {row['basin_higher']} "
    return f"{calls}{ends}{basins}| {row['relaxations_per_cpu_s']:.2f} | {row['times_fire']:.1f} |"


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Draw the calls of each relaxation, by method."""
    from matplotlib.figure import Figure

    from gasearch.plotting import BLUE, GREY

    figure = Figure(figsize=(4.5 * len(found), 4), layout="constrained")
    for axes, one in zip(np.atleast_1d(figure.subplots(1, len(found))), found, strict=True):
        methods = [BATCH, *ASE]
        for k, method in enumerate(methods):
            calls = np.array(one["calls"][method])
            aside = np.linspace(-0.2, 0.2, len(calls))
            color = BLUE if method == BATCH else GREY
            axes.plot(k + aside, calls, "o", ms=4, alpha=0.6, color=color)
            axes.hlines(calls.mean(), k - 0.3, k + 0.3, color=color)
        axes.set_xticks(range(len(methods)), methods, rotation=20)
        axes.set_yscale("log")
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
