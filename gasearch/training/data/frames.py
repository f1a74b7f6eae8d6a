"""A labelled frame: one crystal with what a first-principles code said about it.

How frames come out of files is in `gasearch.training.data.reading`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.species import Species, species_of
from gasearch.potentials.contract import Array, formal_charges

WORKING_IONS = ("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Zn")
_DISTORTED = ("rattle", "strain", "hop", "swap", "start")
_SAME_PLACE = 4  # decimals, in Å
_HOP = re.compile(r"hop(\d+):(.+)")


@dataclass(frozen=True)
class Hop:
    """Where a frame lies on the straight path from its own decoration to another one.

    Parameters
    ----------
    other
        Name of the decoration at the end of the path.
    share
        Of the path, from 0 to 1.
    """

    other: str
    share: float


@dataclass(frozen=True, eq=False)
class Frame:
    """A crystal with oxidation states and its labels; None for a label that is not known.

    Parameters
    ----------
    atoms
        With formal charges as `initial_charges`; no calculator.
    energy
        Of the whole cell, in eV.
    forces
        (n_atoms, 3), in eV/Å.
    stress
        (3, 3), in eV/Å^3, tension positive.
    moments
        (n_atoms,) absolute magnetic moments, in Bohr magnetons; NaN where unknown.
    partial_charges
        (n_atoms,) charges of the atoms in the electron density, in e, cations positive; NaN where
        unknown.
    decoration
        Frames of one name are kept on one side of a split.
    tag
        What the frame is within its decoration.
    level
        Of theory, as the file names it; "" where it does not.
    """

    atoms: Atoms
    energy: float | None = None
    forces: Array | None = None
    stress: Array | None = None
    moments: Array | None = None
    partial_charges: Array | None = None
    decoration: str = ""
    tag: str = ""
    level: str = ""

    def __len__(self) -> int:
        return len(self.atoms)

    @cached_property
    def charges(self) -> NDArray[np.int64]:
        """(n_atoms,) formal oxidation states, in e."""
        return formal_charges(self.atoms)

    @cached_property
    def species(self) -> tuple[Species, ...]:
        """Of each atom."""
        formal_charges(self.atoms)
        return tuple(species_of(self.atoms))

    @cached_property
    def redox_sites(self) -> NDArray[np.int64]:
        """Indices (n_redox,) of the atoms that carry a high-spin moment."""
        return np.flatnonzero([one.moment > 0 for one in self.species])

    @property
    def n_units(self) -> int:
        """Formula units: redox sites; 1 where there is none."""
        return max(1, len(self.redox_sites))

    @property
    def working_fraction(self) -> float:
        """Working ions per formula unit."""
        ions = sum(symbol in WORKING_IONS for symbol in self.atoms.symbols)
        return ions / self.n_units

    @property
    def composition(self) -> str:
        """Hill formula of the cell, such as 'Fe4Na3O16P4'."""
        return str(self.atoms.symbols.formula.format("hill"))

    @property
    def hop(self) -> Hop | None:
        """Place on the path to another decoration, from a tag such as `hop45:111-v2-3`."""
        found = _HOP.fullmatch(self.tag)
        return Hop(found[2], int(found[1]) / 100) if found else None


def data_hash(frames: Iterable[Frame]) -> str:
    """Return the sha256 of structures, oxidation states and labels; the order of frames counts."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(f"{frame.decoration}|{frame.tag}|{frame.energy!r}|".encode())
        atoms = frame.atoms
        for array in (atoms.numbers, frame.charges):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        labels = (frame.forces, frame.stress, frame.moments, frame.partial_charges)
        for values in (atoms.positions, atoms.cell.array, *labels):
            digest.update(b"none" if values is None else np.asarray(values, "<f8").tobytes())
    return digest.hexdigest()


def lowest_frames(frames: Iterable[Frame]) -> list[Frame]:
    """Return the frame of lowest energy of each decoration, in the order of first appearance.

    Rattled, strained and hop frames count only where a decoration has no others.
    """
    lowest: dict[str, tuple[bool, float, Frame]] = {}
    for frame in frames:
        if frame.energy is None:
            continue
        rank = (frame.tag.startswith(_DISTORTED), frame.energy)
        if frame.decoration not in lowest or rank < lowest[frame.decoration][:2]:
            lowest[frame.decoration] = (*rank, frame)
    return [frame for _, _, frame in lowest.values()]


def without_repeats(frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames without second labels of one decoration at one geometry.

    The one of lowest energy stays: PBE+U has several orbital states for one charge order, and the
    lowest is meant.
    """
    kept: dict[tuple[str, bytes], Frame] = {}
    for frame in frames:
        atoms = frame.atoms
        place = np.concatenate([atoms.cell.array, atoms.positions]).round(_SAME_PLACE)
        key = (frame.decoration, frame.charges.tobytes() + (place + 0.0).tobytes())
        known = kept.setdefault(key, frame)
        if _rank(frame) < _rank(known):
            kept[key] = frame
    chosen = {id(frame) for frame in kept.values()}
    return [frame for frame in frames if id(frame) in chosen]


def _rank(frame: Frame) -> float:
    return np.inf if frame.energy is None else frame.energy


def all_species(frames: Iterable[Frame]) -> list[Species]:
    """Return the species that occur, sorted."""
    return sorted({one for frame in frames for one in frame.species})


def by_decoration(frames: Iterable[Frame]) -> dict[str, list[Frame]]:
    """Return the frames of each decoration, in the order of their first appearance."""
    groups: dict[str, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(frame.decoration, []).append(frame)
    return groups


def bare(atoms: Atoms, charges: Sequence[int] | NDArray[np.int64]) -> Atoms:
    """Return a copy with these oxidation states, their moments, and nothing else.

    High spin, unless the initial moment of an atom is exactly that of another spin state.
    """
    copy = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell.array, pbc=True)
    copy.set_initial_charges(np.asarray(charges, dtype=float))
    if "initial_magmoms" in atoms.arrays:
        copy.set_array("initial_magmoms", atoms.arrays["initial_magmoms"].astype(float))
    copy.set_initial_magnetic_moments([one.moment for one in species_of(copy)])
    return copy
