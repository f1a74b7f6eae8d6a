"""Relaxations to compare: the same starts by the batch relaxer and by optimizers of ASE."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE
from ase.optimize.cellawarebfgs import CellAwareBFGS
from relax_stock import Stock

from gasearch.analysis.enumerate import decorations
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.io.builtin import builtin_host
from gasearch.potentials.contract import Potential
from gasearch.relax.batched.memory import BatchLimit, expected_edges
from gasearch.relax.batched.relaxer import BatchRelaxer
from gasearch.relax.settings import RelaxSettings

RATTLE = 0.05  # Å
SETTINGS = RelaxSettings(max_calls=600)
BATCH = "gasearch"
ASE = ("FIRE", "BFGS", "CellAwareBFGS")


@dataclass(frozen=True, eq=False)
class Run:
    """One start relaxed in one way.

    Parameters
    ----------
    atoms
        Final structure.
    n_calls
        Evaluations of the potential.
    cpu_s
        Processor time; of the batch, by the size of the structures.
    """

    atoms: Atoms
    n_calls: int
    cpu_s: float


def starts(rattles: int, larger: int) -> list[Atoms]:
    """Return all distinct decorations of the 28-atom cell at x = 1/2 and 3/4, rattled.

    Parameters
    ----------
    rattles
        How often each.
    larger
        How many random decorations of 56 atoms, and of 84, come besides, at x = 1/2 and at 3/4
        each.
    """
    host = Host.build(builtin_host("nafepo4-olivine"), (1, 1, 1))
    fillings = [host.composition_at(0.5), host.composition_at(0.75)]
    found = [d.to_atoms() for _ in range(rattles) for d in decorations(host, fillings)]
    for n, x in itertools.product((2, 3), (0.5, 0.75)):
        host = Host.build(builtin_host("nafepo4-olivine"), (1, n, 1))
        for seed in range(larger):
            rng = np.random.default_rng([n, seed])
            found.append(Decoration.random(host, host.composition_at(x), rng).to_atoms())
    for seed, atoms in enumerate(found):
        rng = np.random.default_rng(seed)
        atoms.positions += rng.normal(0, RATTLE, atoms.positions.shape)
    return found


def by_batch(potential: Potential, structures: Sequence[Atoms]) -> list[Run]:
    """Relax all with the batch relaxer."""
    began = time.process_time()
    found = dict(BatchRelaxer(potential, SETTINGS).relax(enumerate(structures)))
    spent = time.process_time() - began
    work = sum(len(one.atoms) * one.n_calls for one in found.values())
    return [
        Run(one.atoms, one.n_calls, spent * len(one.atoms) * one.n_calls / work)
        for _, one in sorted(found.items())
    ]


def by_ase(name: str, stock: Stock, structures: Sequence[Atoms]) -> list[Run]:
    """Relax one after another with an optimizer of ASE, to the same thresholds."""
    return [_ase_run(name, stock, atoms) for atoms in structures]


def _ase_run(name: str, stock: Stock, start: Atoms) -> Run:
    atoms = stock.written(start)
    calls = 0
    began = time.process_time()
    optimizer = _optimizer(name, atoms)
    for _ in optimizer.irun(fmax=1e-9, steps=SETTINGS.max_calls - 1):
        calls += 1
        force, stress = residuals(atoms)
        if force <= SETTINGS.fmax and stress <= SETTINGS.smax:
            break
    spent = time.process_time() - began
    final = start.copy()
    final.set_cell(atoms.cell)
    final.positions[:] = atoms.positions
    return Run(final, calls, spent)


def _optimizer(name: str, atoms: Atoms) -> Any:
    logfile: Any = None
    if name == "CellAwareBFGS":
        return CellAwareBFGS(FrechetCellFilter(atoms, exp_cell_factor=1.0), logfile=logfile)
    return {"FIRE": FIRE, "BFGS": BFGS}[name](FrechetCellFilter(atoms), logfile=logfile)


def residuals(atoms: Atoms) -> tuple[float, float]:
    """Return the largest force on an atom (eV/Å) and the largest stress component (eV/Å^3)."""
    force = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
    return force, float(np.abs(atoms.get_stress()).max())


def judged(run: Run, stock: Stock) -> dict[str, float]:
    """Return energy, largest force and largest stress of a final structure, computed anew."""
    atoms = stock.written(run.atoms)
    force, stress = residuals(atoms)
    return {"energy": float(atoms.get_potential_energy()), "fmax": force, "smax": stress}


def invariance(potential: Potential, structures: Sequence[Atoms]) -> dict[str, float]:
    """Return by how much final structures differ, alone and in a crowd."""
    crowd = by_batch(potential, structures)
    alone = [by_batch(potential, [atoms])[0] for atoms in structures]
    pairs = list(zip(crowd, alone, strict=True))
    ours = Stock.of(potential)
    energies = [
        abs(judged(a, ours)["energy"] - judged(b, ours)["energy"]) / len(a.atoms) for a, b in pairs
    ]
    return {
        "structures": len(pairs),
        "largest_shift_A": max(float(np.abs(_shift(a.atoms, b.atoms)).max()) for a, b in pairs),
        "largest_energy_meV_per_atom": 1000 * max(energies),
    }


def _shift(one: Atoms, other: Atoms) -> Any:
    return np.vstack([one.positions - other.positions, one.cell.array - other.cell.array])


def shares(
    potential: Potential, structures: Sequence[Atoms], places: int | None = None
) -> dict[str, float]:
    """Return what share of the processor time the parts of the batch relaxer take.

    Parameters
    ----------
    places
        Structures at once; as many as the relaxer takes on its own if None.
    """
    limit = None
    if places is not None:
        edges = max(expected_edges(atoms, potential.cutoff) for atoms in structures)
        limit = BatchLimit(places * edges, places * edges)
    relaxer = BatchRelaxer(potential, SETTINGS, limit=limit)
    spent: dict[str, float] = {}
    method = "evaluate" if relaxer._neighbours is None else "evaluate_with_edges"
    parts = [
        ("potential", potential, method),
        ("lists", relaxer._neighbours, "bonds"),
        ("optimizer", relaxer._minimizers, "advance"),
        ("optimizer", relaxer._minimizers, "join"),
        ("verdicts", relaxer._results, "build"),
    ]
    with contextlib.ExitStack() as stack:
        for name, owner, called in parts:
            if owner is not None:
                stack.enter_context(_timed(owner, called, name, spent))
        began = time.process_time()
        list(relaxer.relax(enumerate(structures)))
        total = time.process_time() - began
    found = {name: seconds / total for name, seconds in spent.items()}
    return {**found, "scheduling": 1 - sum(found.values())}


@contextlib.contextmanager
def _timed(owner: Any, name: str, part: str, spent: dict[str, float]) -> Iterator[None]:
    """Count the processor time of a method of one object."""
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        try:
            return original(*args, **kwargs)
        finally:
            spent[part] = spent.get(part, 0.0) + time.process_time() - began

    setattr(owner, name, counted)
    try:
        yield
    finally:
        delattr(owner, name)
