"""Whether a potential tells the oxidation states of an element apart: measured, not declared."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from gasearch.errors import UsageError
from gasearch.potentials.asking import evaluate
from gasearch.potentials.contract import Batch, Potential, check_species, formal_charges

BLIND_BELOW = 5.0
"""meV per swap. Charge-aware potentials give hundreds; rounding in single precision gives 0.1."""
_RATTLE = 0.05  # Å: sites that symmetry makes equal differ after it
_SWAPS = 8  # per structure


class ChargeBlindError(UsageError):
    """A potential for which an exchange of Fe2+ and Fe3+ changes nothing."""

    def __init__(self, potential: str, awareness: float) -> None:
        super().__init__(potential, awareness)
        self.potential = potential
        self.awareness = awareness

    def __str__(self) -> str:
        return (
            f"potential {self.potential!r} is charge-blind: exchanging the oxidation states of two "
            f"sites changes its energy by {self.awareness:.2g} meV (root mean square; at least "
            f"{BLIND_BELOW:g} expected), so a search would find no charge order. Set "
            'hold = "auto" under [potential], take another potential, or set '
            "allow_charge_blind = true to search anyway."
        )


def charge_awareness(
    potential: Potential, structures: Sequence[Atoms], rng: np.random.Generator
) -> float | None:
    """Return the root mean square change of energy, in meV, when two sites swap oxidation states.

    The structures are rattled first, so that no two sites are equivalent. None where no element
    occurs in two oxidation states, and there is nothing to be blind to.

    Parameters
    ----------
    structures
        With formal charges; the more unlike each other the better.
    rng
        Of the displacements and of the choice of swaps.
    """
    changes: list[float] = []
    for atoms in structures:
        check_species(potential, atoms)
        swaps = _swaps(atoms, rng)
        if not swaps:
            continue
        rattled = atoms.copy()
        rattled.positions += rng.normal(0.0, _RATTLE, rattled.positions.shape)
        variants = [rattled, *(_swapped(rattled, i, j) for i, j in swaps)]
        batch = Batch.from_atoms(variants, potential.device)
        energies = evaluate(potential, batch).energies.tolist()
        changes += [energy - energies[0] for energy in energies[1:]]
    if not changes:
        return None
    return 1000.0 * float(np.sqrt(np.mean(np.square(changes))))


def require_charge_aware(
    potential: Potential,
    structures: Sequence[Atoms],
    rng: np.random.Generator,
    allow_charge_blind: bool = False,
) -> float | None:
    """Return the charge awareness in meV, or raise for a charge-blind potential."""
    awareness = charge_awareness(potential, structures, rng)
    # Written so that NaN is refused as well.
    if awareness is not None and not awareness >= BLIND_BELOW and not allow_charge_blind:
        raise ChargeBlindError(potential.name, awareness)
    return awareness


def awareness_record(
    potential: Potential,
    structures: Sequence[Atoms],
    rng: np.random.Generator,
    allow_charge_blind: bool = False,
) -> dict[str, Any]:
    """Return the charge awareness as a run records it, or raise for a charge-blind potential.

    {"change_eV": a finite number or None, "is_blind": whether it is below `BLIND_BELOW`}
    """
    found = require_charge_aware(potential, structures, rng, allow_charge_blind)
    value = found / 1000 if found is not None and math.isfinite(found) else None
    return {"change_eV": value, "is_blind": found is not None and not found >= BLIND_BELOW}


def _swaps(atoms: Atoms, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return some pairs of atoms of one element and two oxidation states."""
    charges = formal_charges(atoms)
    pairs = [
        (i, j)
        for i, j in itertools.combinations(range(len(atoms)), 2)
        if atoms.numbers[i] == atoms.numbers[j] and charges[i] != charges[j]
    ]
    chosen = rng.permutation(len(pairs))[:_SWAPS]
    return [pairs[k] for k in sorted(chosen.tolist())]


def _swapped(atoms: Atoms, i: int, j: int) -> Atoms:
    """Return a copy in which two atoms have exchanged their labels and nothing else."""
    copy: Atoms = atoms.copy()
    for label in ("initial_charges", "initial_magmoms"):
        if label in copy.arrays:
            copy.arrays[label][[i, j]] = copy.arrays[label][[j, i]]
    return copy
