"""The level of theory of an evaluation: which potential, with which weights, as it really computes.

A changed version of a package, another precision or a hidden setting of a calculator changes
energies and no hash. So the energies of a few probe structures belong to the level, and are
computed again whenever a search is resumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ase import Atoms

from gasearch.errors import UsageError
from gasearch.potentials.asking import evaluate
from gasearch.potentials.contract import Batch, Potential, check_species

_RELATIVE = 1e-6  # a few µeV per atom: single precision, another processor
_ABSOLUTE = 1e-4  # eV per cell, for potentials whose energies are near zero


class AnyLevel(Protocol):
    """What two levels are compared by; the record in a database has it too."""

    @property
    def name(self) -> str:
        """As shown to people."""
        ...

    @property
    def weights_hash(self) -> str:
        """Of the potential."""
        ...

    @property
    def probe_energies(self) -> tuple[float, ...]:
        """In eV."""
        ...


@dataclass(frozen=True)
class Level:
    """What computes the energies of a search.

    Parameters
    ----------
    name
        Shown to people: the potential and the first digits of its hash.
    potential
        How the user asks for it.
    weights_hash
        As the potential gives it.
    probe_energies
        Of the probe structures, in eV per cell, in their order.
    """

    name: str
    potential: str
    weights_hash: str
    probe_energies: tuple[float, ...]


class LevelMismatchError(UsageError):
    """A potential that no longer computes what it did when a search began."""

    def __init__(self, name: str, what: str, stored: object, now: object) -> None:
        super().__init__(name, what, stored, now)
        self.name = name
        self.what = what
        self.stored = stored
        self.now = now

    def __str__(self) -> str:
        return (
            f"the potential changed since this search began at level {self.name!r}: {self.what} "
            f"was {self.stored} and is {self.now}. A hull cannot mix levels: restore the potential "
            "(weights, package versions, precision), or start another run folder."
        )


class UnusablePotentialError(UsageError):
    """A potential that gives no energy for an ordinary structure of the host."""

    def __init__(self, potential: str) -> None:
        super().__init__(potential)
        self.potential = potential

    def __str__(self) -> str:
        return (
            f"potential {self.potential!r} gives no finite energy for two probe structures of this "
            "host (its sites, displaced by 0.05 Å): check its species and units."
        )


def measure_level(potential: Potential, probes: Sequence[Atoms]) -> Level:
    """Return the level of a potential; the probes must be the same at each resume.

    Parameters
    ----------
    probes
        A few structures with formal charges, best of two compositions and off their minimum.
    """
    for atoms in probes:
        check_species(potential, atoms)
    found = evaluate(potential, Batch.from_atoms(list(probes), potential.device))
    if not bool(found.energies.isfinite().all()):
        raise UnusablePotentialError(potential.name)
    weights = potential.weights_hash
    name = f"{potential.name}-{weights[:8]}" if weights else potential.name
    return Level(name, potential.name, weights, tuple(found.energies.tolist()))


def compare_levels(stored: AnyLevel, now: AnyLevel) -> None:
    """Raise unless both are the same level.

    Weights must be identical. Energies may differ by a millionth, or 0.1 meV per cell where that is
    more, as between processors in single precision; what a user changes moves them further.
    """
    if stored.weights_hash != now.weights_hash:
        pair = (stored.weights_hash[:12], now.weights_hash[:12])
        raise LevelMismatchError(stored.name, "the hash of its weights", *pair)
    if len(stored.probe_energies) != len(now.probe_energies):
        pair_of_counts = (len(stored.probe_energies), len(now.probe_energies))
        raise LevelMismatchError(stored.name, "the number of probe structures", *pair_of_counts)
    energies = zip(stored.probe_energies, now.probe_energies, strict=True)
    for i, (before, after) in enumerate(energies):
        if not math.isclose(before, after, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE):
            what = f"the energy of probe structure {i + 1}"
            raise LevelMismatchError(stored.name, what, f"{before:.6f} eV", f"{after:.6f} eV")
