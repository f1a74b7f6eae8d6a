"""Frames labelled by another potential: to teach a small network before it sees DFT.

The teacher is a potential that knows charge orders (`pmmcs`, a fine-tuned CHGNet); the frames go
over many more orders, strains and cells than DFT can pay for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.potentials.calculator import PotentialCalculator
from gasearch.potentials.contract import Potential, formal_charges
from gasearch.relax.ase_relaxer import make_optimizer
from gasearch.relax.settings import RelaxSettings
from gasearch.training.data.frames import Frame, bare
from gasearch.training.evaluation.predict import predict

_NORMAL, _SHEAR = 0.02, 0.008  # standard deviations of strains
_RATTLES = (0.02, 0.04, 0.07)  # Å
_MAX_FORCE = 30.0  # eV/Å: what is further off teaches nothing


def teacher_frames(
    potential: Potential,
    host: Host,
    n_decorations: int,
    seed: int = 0,
    *,
    steps: int = 25,
    progress: Callable[[int, int], None] | None = None,
) -> list[Frame]:
    """Return labelled frames of random decorations of all compositions: about seven of each.

    Of each decoration: the undistorted start, two steps of its relaxation and the last one, rattled
    and strained copies, and one of these with the labels of two sites exchanged, from which a
    student learns that labels matter.

    Parameters
    ----------
    steps
        Evaluations that a relaxation takes, at most.
    progress
        Called with the number of finished decorations and their total.
    """
    frames: list[Frame] = []
    for k in range(n_decorations):
        rng = np.random.default_rng([seed, k])
        chosen = host.compositions[k % len(host.compositions)]
        decoration = Decoration.random(host, chosen, rng)
        structures = _structures(potential, decoration.to_atoms(), rng, steps)
        name = f"{decoration.formula}-{decoration.fingerprint}"
        frames += label_with(potential, structures, name)
        if progress is not None:
            progress(k + 1, n_decorations)
    return frames


def label_with(
    potential: Potential, structures: Sequence[tuple[str, Atoms]], decoration: str
) -> list[Frame]:
    """Return structures with a potential's energies, forces, stresses and moments as labels.

    Parameters
    ----------
    structures
        Tags and structures with formal charges; those with absurd forces are left out.
    decoration
        Name that all of them get.
    """
    found = predict(potential, [atoms for _, atoms in structures])
    return [
        Frame(
            atoms=bare(atoms, formal_charges(atoms)),
            energy=one.energy,
            forces=one.forces,
            stress=one.stress,
            moments=None if one.moments is None else np.abs(one.moments),
            decoration=decoration,
            tag=tag,
        )
        for (tag, atoms), one in zip(structures, found, strict=True)
        if np.abs(one.forces).max() < _MAX_FORCE
    ]


def _structures(
    potential: Potential, start: Atoms, rng: np.random.Generator, steps: int
) -> list[tuple[str, Atoms]]:
    """Return tagged structures along and around a relaxation."""
    path = _relaxation(potential, _strained(_rattled(start, 0.02, rng), rng), steps)
    last = path[-1]
    between = sorted({len(path) // 4, len(path) // 2})
    found = [("start", start), *((f"relax{k}", path[k]) for k in between), ("relaxed", last)]
    for k, size in enumerate(_RATTLES):
        found.append((f"rattle{k}", _rattled(_strained(last, rng), size, rng)))
    swapped = _swapped(found[-2][1], rng)
    return [*found, ("swap", swapped)] if swapped is not None else found


def _relaxation(potential: Potential, start: Atoms, steps: int) -> list[Atoms]:
    """Return the structures of a relaxation, from the start on."""
    work: Atoms = start.copy()
    work.calc = PotentialCalculator(potential)
    optimizer = make_optimizer(work, RelaxSettings())
    return [work.copy() for _ in optimizer.irun(fmax=0.02, steps=steps)]


def _strained(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    copy: Atoms = atoms.copy()
    strain = np.diag(rng.normal(0, _NORMAL, 3)) + np.triu(rng.normal(0, _SHEAR, (3, 3)), 1)
    symmetric = np.eye(3) + (strain + strain.T) / 2
    copy.set_cell(copy.cell.array @ symmetric, scale_atoms=True)
    return copy


def _rattled(atoms: Atoms, size: float, rng: np.random.Generator) -> Atoms:
    copy: Atoms = atoms.copy()
    copy.positions += rng.normal(0, size, copy.positions.shape)
    return copy


def _swapped(atoms: Atoms, rng: np.random.Generator) -> Atoms | None:
    """Return a copy in which two atoms of one element exchanged their oxidation states."""
    charges = formal_charges(atoms)
    pairs = [
        (i, j)
        for i in range(len(atoms))
        for j in range(i)
        if atoms.numbers[i] == atoms.numbers[j] and charges[i] != charges[j]
    ]
    if not pairs:
        return None
    pair = list(pairs[int(rng.integers(len(pairs)))])
    charges[pair] = charges[pair[::-1]]
    swapped: Atoms = atoms.copy()
    if "initial_magmoms" in swapped.arrays:
        swapped.arrays["initial_magmoms"][pair] = swapped.arrays["initial_magmoms"][pair[::-1]]
    return bare(swapped, charges)
