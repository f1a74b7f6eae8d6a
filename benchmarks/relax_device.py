"""The batch relaxer on an accelerator: how many atoms at once, beside ASE and torch-sim.

Starts are rattled NaxFePO4 of 28, 56 and 84 atoms at x = 1/2 and 3/4, relaxed with cell to
0.02 eV/Å. `capacity` relaxes them with more and more atoms at once, and tells the rate, the share
of the time that the potential takes, and the memory. `compare` relaxes some of them with torch-sim
(FIRE with a Frechet cell filter, in-flight batches of its own choice, the same potential through
our adapter) and one after another with FIRE of ASE and the package's own calculator on the same
device. A final energy counts as found where it is less than 1 meV per cell above the lower of two.

usage: relax_device.py [POTENTIAL ...] [--device cuda] [--starts N] [--atoms N ...] [--compare N]
                       [--output FILE.json]
"""

from __future__ import annotations

import importlib
import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from ase import Atoms
from machine import describe_machine
from relax_runs import RATTLE, SETTINGS, by_ase
from relax_stock import stock_of

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.potentials.contract import Potential
from gasearch.potentials.registry import load_potential
from gasearch.relax.batched.memory import BatchLimit, expected_edges
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.relaxed import Relaxed
from gasearch.relax.torch_sim_adapter import torch_sim_model, torch_sim_state

POTENTIALS = ("chgnet-nafepo4", "mace-nafepo4", "painn-nafepo4", "pmmcs")
PACKAGES = ("gasearch", "torch", "ase", "chgnet", "mace-torch", "torch-sim-atomistic")
ATOMS = (28, 256, 1024, 2048, 4096, 8192, 16_384, 32_768)
_WARM_UP = 24
_FOUND = 1e-3  # eV per cell


def starts(n: int) -> list[Atoms]:
    """Return rattled random decorations: of 28, 56 and 84 atoms in turn, at x = 1/2 and 3/4."""
    hosts = [Host.build(builtin_host("nafepo4-olivine"), (1, k, 1)) for k in (1, 2, 3)]
    found = []
    for seed in range(n):
        host, rng = hosts[seed % 3], np.random.default_rng([28, seed])
        composition = host.composition_at((0.5, 0.75)[seed // 3 % 2])
        atoms = Decoration.random(host, composition, rng).to_atoms()
        atoms.positions += rng.normal(0, RATTLE, atoms.positions.shape)
        found.append(atoms)
    return found


def relaxed_together(
    potential: Potential, structures: Sequence[Atoms], n_atoms: int
) -> tuple[dict[int, Relaxed], dict[str, float]]:
    """Relax with at most about so many atoms at once; return results and what it cost."""
    per_atom = sum(expected_edges(atoms, potential.cutoff) for atoms in structures)
    edges = n_atoms * per_atom / sum(map(len, structures))
    relaxer = BatchRelaxer(potential, SETTINGS, limit=BatchLimit(edges, edges))
    inside = _Clock(potential)
    _forget_peak(potential)
    began = time.perf_counter()
    with inside:
        found = dict(relaxer.relax(enumerate(structures)))
    wall_s = time.perf_counter() - began
    atom_calls = sum(len(one.atoms) * one.n_calls for one in found.values())
    return found, {
        "atoms_at_once": n_atoms,
        "structures": len(structures),
        "wall_s": wall_s,
        "per_s": len(structures) / wall_s,
        "us_per_atom_and_call": 1e6 * wall_s / atom_calls,
        "calls": float(np.mean([one.n_calls for one in found.values()])),
        "share_of_potential": inside.spent_s / wall_s,
        "ok": sum(one.verdict == "ok" for one in found.values()),
        "peak_MB": _peak_memory(potential),
    }


class _Clock:
    """Counts the time in the potential of whatever runs in its `with` block."""

    def __init__(self, potential: Potential) -> None:
        self._potential: Any = potential
        self._name = next(n for n in ("evaluate_with_edges", "evaluate") if hasattr(potential, n))
        self.spent_s = 0.0

    def __enter__(self) -> None:
        original: Callable[..., Any] = getattr(self._potential, self._name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            _synchronize(self._potential)
            began = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                _synchronize(self._potential)
                self.spent_s += time.perf_counter() - began

        setattr(self._potential, self._name, timed)

    def __exit__(self, *_: object) -> None:
        delattr(self._potential, self._name)


def _synchronize(potential: Potential) -> None:
    if potential.device != "cpu":
        torch.cuda.synchronize(potential.device)


def _forget_peak(potential: Potential) -> None:
    if potential.device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(potential.device)


def _peak_memory(potential: Potential) -> float:
    if potential.device == "cpu":
        return math.nan
    return torch.cuda.max_memory_allocated(potential.device) / 2**20


def by_torch_sim(potential: Potential, structures: Sequence[Atoms]) -> dict[str, Any]:
    """Relax with torch-sim's in-flight batches; return final energies and the time."""
    torch_sim = importlib.import_module("torch_sim")
    model = torch_sim_model(potential)
    ended = torch_sim.generate_force_convergence_fn(SETTINGS.fmax, include_cell_forces=True)
    state = torch_sim_state(structures, str(potential.device))
    _synchronize(potential)
    began = time.perf_counter()
    final = torch_sim.optimize(
        state,
        model,
        optimizer=torch_sim.Optimizer.fire,
        convergence_fn=ended,
        max_steps=SETTINGS.max_calls,
        autobatcher=potential.device != "cpu",
        init_kwargs={"cell_filter": torch_sim.CellFilter.frechet},
    )
    _synchronize(potential)
    wall_s = time.perf_counter() - began
    return {
        "structures": len(structures),
        "wall_s": wall_s,
        "per_s": len(structures) / wall_s,
        "energies": final.energy.tolist(),
        "converged": int(ended(final).sum()),
    }


def compare(potential: Potential, structures: Sequence[Atoms], n_alone: int) -> dict[str, Any]:
    """Return rates of ours, torch-sim and ASE on the same starts, and whose minima are lower."""
    ours, cost = relaxed_together(potential, structures, ATOMS[-2])
    energies = np.array([ours[k].energy for k in range(len(structures))])
    found: dict[str, Any] = {"gasearch": cost}
    try:
        theirs = by_torch_sim(potential, structures)
    except Exception as error:  # noqa: BLE001 -- a foreign program: what it says is the result
        found["torch-sim"] = {"failed": f"{type(error).__name__}: {error}"[:300]}
    else:
        others = np.array(theirs.pop("energies"))
        found["torch-sim"] = {
            **theirs,
            "ours_lower": int((energies < others - _FOUND).sum()),
            "theirs_lower": int((others < energies - _FOUND).sum()),
        }
    began = time.perf_counter()
    alone = by_ase("FIRE", stock_of(potential), structures[:n_alone])
    wall_s = time.perf_counter() - began
    found["ASE"] = {
        "structures": n_alone,
        "wall_s": wall_s,
        "per_s": n_alone / wall_s,
        "calls": float(np.mean([run.n_calls for run in alone])),
    }
    return found


def main(
    potentials: Annotated[list[str] | None, typer.Argument()] = None,
    device: Annotated[str, typer.Option(help="As torch writes it.")] = "cuda",
    n_starts: Annotated[int, typer.Option("--starts", help="Least number of relaxations.")] = 600,
    atoms: Annotated[list[int] | None, typer.Option(help="Atoms at once.")] = None,
    n_compare: Annotated[int, typer.Option("--compare", help="0: no comparison.")] = 300,
    n_alone: Annotated[int, typer.Option(help="Starts that ASE relaxes one by one.")] = 6,
    output: Annotated[Path | None, typer.Option(help="JSON, written after each part.")] = None,
) -> None:
    """Measure, print, and write what was measured."""
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {"machine": describe_machine(PACKAGES)}
    if device != "cpu":
        found["machine"]["device"] = torch.cuda.get_device_name(device)
    for name in potentials or POTENTIALS:
        potential = load_potential(name, device=device)
        relaxed_together(potential, starts(_WARM_UP), ATOMS[1])
        part = found[name] = {"capacity": []}
        for n_atoms in atoms or ATOMS:
            n = _WARM_UP if n_atoms == ATOMS[0] else max(n_starts // 4, 4 * n_atoms // 56)
            _, cost = relaxed_together(potential, starts(n), n_atoms)
            part["capacity"].append(cost)
            print(name, json.dumps(cost), flush=True)
            _write(output, found)
        if n_compare:
            part["compare"] = compare(potential, starts(n_compare), n_alone)
            print(name, json.dumps(part["compare"]), flush=True)
            _write(output, found)


def _write(output: Path | None, found: dict[str, Any]) -> None:
    if output is not None:
        output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
