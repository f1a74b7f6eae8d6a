"""What is computed beside the relaxed structure of a candidate: the frames that a network needs.

Relaxed structures alone teach no forces. And a network listens to the labels only where it has seen
two charge orders on one geometry: the mid-point between two relaxed ones, computed for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from numpy.typing import NDArray

from gasearch.analysis.export import decoration_name
from gasearch.analysis.findings import Findings, Ranked
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.site_matching import map_sites
from gasearch.learning.settings import GeometriesSection
from gasearch.seeding import named_rng

_TOLERANCE = 1.6  # Å, between an atom and its site


@dataclass(frozen=True)
class Geometries:
    """The geometries of the candidates of one run.

    Parameters
    ----------
    findings
        Of the run.
    seed
        Of random displacements.
    """

    findings: Findings
    settings: GeometriesSection
    seed: int

    def of(self, number: int) -> list[Atoms]:
        """Return further geometries of a candidate, each with its `tag` in info; same labels."""
        relaxed = self.findings.store.relaxed(number).atoms
        fingerprint = self.findings.store.proposal(number).fingerprint
        return [
            *self._halfway(relaxed),
            *self._rattled(relaxed, fingerprint),
            *self._swapped(relaxed, number, fingerprint),
        ]

    def _halfway(self, relaxed: Atoms) -> list[Atoms]:
        """Return geometries on the straight way from the sites of the host, in the relaxed cell."""
        host, count = self.findings.host, self.settings.halfway
        sites = map_sites(host, relaxed, _TOLERANCE).atom_at
        ideal = relaxed.get_scaled_positions(wrap=False)
        places = host.atoms.get_scaled_positions(wrap=False)
        filled = np.flatnonzero(sites >= 0)
        shift = places[filled] - ideal[sites[filled]]
        shift -= np.round(shift)
        shift -= shift.mean(axis=0)
        found = []
        for k in range(1, count + 1):
            share = k / (count + 1)
            scaled = ideal.copy()
            scaled[sites[filled]] += (1 - share) * shift
            found.append(_placed(relaxed, scaled, relaxed.cell.array, f"way{round(100 * share)}"))
        return found

    def _rattled(self, relaxed: Atoms, fingerprint: str) -> list[Atoms]:
        """Return strained and displaced geometries: random numbers of the decoration's own."""
        found = []
        for k in range(self.settings.rattled):
            rng = named_rng(self.seed, f"learn {fingerprint} {k}")
            strain = rng.normal(0, self.settings.strain, (3, 3))
            cell = relaxed.cell.array @ (np.eye(3) + (strain + strain.T) / 2)
            moved = _placed(relaxed, relaxed.get_scaled_positions(wrap=False), cell, f"rattle{k}")
            moved.positions += rng.normal(0, self.settings.displacement, moved.positions.shape)
            found.append(moved)
        return found

    def _swapped(self, relaxed: Atoms, number: int, fingerprint: str) -> list[Atoms]:
        """Return mid-points with other charge orders of the same ion order."""
        host, store, wanted = self.findings.host, self.findings.store, self.settings.swapped
        found: list[Atoms] = []
        for row in _others(self.findings, number) if wanted else ():
            other = store.relaxed(row.id).atoms
            if fingerprint < row.fingerprint:
                pair = relaxed, _in_the_order_of(host, other, relaxed)
            else:  # what the job of the other one computes, to the last digit
                pair = other, _in_the_order_of(host, relaxed, other)
            middle = midpoint(host, *pair, labels=int(fingerprint > row.fingerprint))
            if middle is not None and list(middle.symbols) == list(relaxed.symbols):
                middle.info["tag"] = f"hop50:{decoration_name(host, row.fingerprint)}"
                found.append(middle)
            if len(found) == wanted:
                break
        return found


def _others(findings: Findings, number: int) -> list[Ranked]:
    """Return valid candidates with an equivalent order of the ions, the nearest in energy first."""
    host, rows = findings.host, findings.ranked()
    mine = next(row for row in rows if row.id == number)
    order = _ion_orders(host, mine.fingerprint)
    found = [
        row
        for row in rows
        if row.formula == mine.formula
        and row.id != number
        and _ion_orders(host, row.fingerprint) & order
    ]
    return sorted(found, key=lambda row: (abs(row.energy_eV - mine.energy_eV), row.id))


def _ion_orders(host: Host, fingerprint: str) -> set[bytes]:
    """Return the orders of the ions of all decorations that are equivalent to one."""
    occupation = Decoration.from_fingerprint(host, fingerprint).occupation
    images = np.empty((len(host.permutations), host.n_sites), dtype=occupation.dtype)
    np.put_along_axis(images, host.permutations, occupation[None].repeat(len(images), 0), axis=1)
    return {row.tobytes() for row in images[:, host.may_be_vacant]}


def _in_the_order_of(host: Host, atoms: Atoms, example: Atoms) -> Atoms | None:
    """Return the image of a relaxed crystal under the host's symmetry with the example's ions."""
    wanted = _ions(host, example)
    for image in _images(host, atoms):
        if np.array_equal(_ions(host, image), wanted):
            return image
    return None


def _ions(host: Host, atoms: Atoms) -> NDArray[np.uint8]:
    return Decoration.from_atoms(host, atoms, _TOLERANCE).occupation[host.may_be_vacant]


def _images(host: Host, atoms: Atoms) -> Iterator[Atoms]:
    """Yield a crystal in the host's lattice as each operation of the host leaves it."""
    ideal = host.atoms.cell.array
    crystal = (ideal, host.atoms.get_scaled_positions(), host.atoms.numbers)
    found: Any = spglib.get_symmetry(crystal, symprec=host.declaration.symprec)
    scaled = atoms.get_scaled_positions(wrap=False)
    for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
        back = np.linalg.inv(rotation).T
        turn = np.linalg.inv(ideal) @ rotation.T @ ideal
        cell = back @ atoms.cell.array @ turn
        yield _placed(atoms, scaled @ rotation.T + translation, cell, "")


def midpoint(host: Host, first: Atoms | None, second: Atoms | None, labels: int) -> Atoms | None:
    """Return the geometry half-way between two relaxed structures, atoms in the host's sequence.

    Parameters
    ----------
    labels
        0 for the oxidation states of the first, 1 for those of the second: all else is the same.

    Returns
    -------
    None where one of them is missing, or where their atoms are not on the same sites.
    """
    if first is None or second is None:
        return None
    here, there = (map_sites(host, atoms, _TOLERANCE).atom_at for atoms in (first, second))
    if not np.array_equal(here >= 0, there >= 0):
        return None
    ends = first[here[here >= 0]], second[there[there >= 0]]
    scaled = [atoms.get_scaled_positions(wrap=False) for atoms in ends]
    step = scaled[1] - scaled[0]
    step -= np.round(step)
    step -= step.mean(axis=0)
    cell = (ends[0].cell.array + ends[1].cell.array) / 2
    return _placed(ends[labels], scaled[0] + step / 2, cell, "")


def _placed(
    atoms: Atoms, scaled: NDArray[np.float64], cell: NDArray[np.float64], tag: str
) -> Atoms:
    """Return the atoms with their labels in another geometry."""
    moved = Atoms(atoms.symbols, cell=cell, pbc=True, scaled_positions=scaled)
    for name in ("initial_charges", "initial_magmoms"):
        if name in atoms.arrays:
            moved.set_array(name, atoms.arrays[name].copy())
    moved.info["tag"] = tag
    return moved
