"""What is computed beside the relaxed structure of a candidate: the frames that a network needs.

Relaxed structures alone teach no forces, and where DFT gives no stress, no cells: those come from
energies of strained ones. And a network listens to the labels only where it has seen two charge
orders on one geometry: the mid-point between two relaxed ones, computed for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from gasearch.analysis.export import decoration_name
from gasearch.analysis.findings import Findings, Ranked
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.crystal.site_matching import map_sites
from gasearch.crystal.symmetry import cell_operations
from gasearch.learning.settings import GeometriesSection
from gasearch.seeding import named_rng

_TOLERANCE = 1.6  # Å, between an atom and its site
STRAIN, OPPOSITES = "strain", ("+", "-")
"""Of the tags of strained geometries, such as strain0+ and strain0-."""
_EQUAL = 1e-3  # Å, of geometries that are the same


@dataclass(frozen=True)
class Geometries:
    """The geometries of the candidates of one run.

    Parameters
    ----------
    findings
        Of the run.
    seed
        Of random displacements.
    partners
        Candidates that are computed too: mid-points with these come first, for only a mid-point
        that both orders compute is a pair of labels.
    """

    findings: Findings
    settings: GeometriesSection
    seed: int
    partners: frozenset[int] = frozenset()

    def of(self, number: int) -> list[Atoms]:
        """Return further geometries of a candidate, each with its `tag` in info; same labels."""
        relaxed = self.findings.store.relaxed(number).atoms
        fingerprint = self.findings.store.proposal(number).fingerprint
        return [
            *self._strained(relaxed, fingerprint),
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

    def _strained(self, relaxed: Atoms, fingerprint: str) -> list[Atoms]:
        """Return the cell with its axes longer or shorter, each second one opposite to the first.

        Which axes go which way is random, of the decoration's own; fractional coordinates stay.
        """
        found = []
        scaled = relaxed.get_scaled_positions(wrap=False)
        for k in range(self.settings.strained):
            pair, is_opposite = divmod(k, 2)
            signs = named_rng(self.seed, f"learn strain {fingerprint} {pair}").choice([-1, 1], 3)
            axes = 1 + self.settings.stretch * (-signs if is_opposite else signs)
            cell = relaxed.cell.array * axes[:, None]
            tag = f"{STRAIN}{pair}{OPPOSITES[is_opposite]}"
            found.append(_placed(relaxed, scaled, cell, tag))
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
        """Return mid-points with other charge orders of the same ion order.

        The job of the other order computes the same one, as seen from its own setting: both are
        made in the setting of the smaller fingerprint.
        """
        host, store, wanted = self.findings.host, self.findings.store, self.settings.swapped
        found: list[Atoms] = []
        others = _others(self.findings, number) if wanted else []
        for row in sorted(others, key=lambda row: row.id not in self.partners):
            other = store.relaxed(row.id).atoms
            middle = _midpoint_of(host, relaxed, other, is_first=fingerprint < row.fingerprint)
            if middle is not None:
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


@dataclass(frozen=True, eq=False)
class _Operation:
    """An operation of a host's supercell on a crystal in nearly that cell.

    Parameters
    ----------
    rotation, translation
        (3, 3) and (3,) on fractional coordinates.
    turn
        (3, 3) what Cartesian rows are multiplied with.
    """

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    turn: NDArray[np.float64]

    def of(self, atoms: Atoms) -> Atoms:
        """Return the image of a crystal, atoms in the same sequence."""
        scaled = atoms.get_scaled_positions(wrap=False) @ self.rotation.T + self.translation
        cell = np.linalg.inv(self.rotation).T @ atoms.cell.array @ self.turn
        return _placed(atoms, scaled, cell, str(atoms.info.get("tag", "")))

    def undone(self, atoms: Atoms) -> Atoms:
        """Return the crystal that this one is the image of."""
        scaled = atoms.get_scaled_positions(wrap=False) - self.translation
        cell = self.rotation.T @ atoms.cell.array @ np.linalg.inv(self.turn)
        return _placed(atoms, scaled @ np.linalg.inv(self.rotation).T, cell, "")


def _operations(host: Host) -> Iterator[_Operation]:
    ideal = host.atoms.cell.array
    scaled, kinds = host.atoms.get_scaled_positions(), host.atoms.numbers
    found = cell_operations(ideal, scaled, kinds, host.declaration.symprec)
    for rotation, translation in zip(*found, strict=True):
        turn = np.linalg.inv(ideal) @ rotation.T @ ideal
        yield _Operation(rotation.astype(float), translation, turn)


def _onto(host: Host, atoms: Atoms, example: Atoms) -> _Operation | None:
    """Return the first operation whose image of a relaxed crystal has the example's ion order."""
    wanted = _ions(host, example)
    for operation in _operations(host):
        if np.array_equal(_ions(host, operation.of(atoms)), wanted):
            return operation
    return None


def _ions(host: Host, atoms: Atoms) -> NDArray[np.uint8]:
    return Decoration.from_atoms(host, atoms, _TOLERANCE).occupation[host.may_be_vacant]


def _midpoint_of(host: Host, own: Atoms, other: Atoms, *, is_first: bool) -> Atoms | None:
    """Return the mid-point with another order, in the setting and sequence of atoms of one's own.

    Parameters
    ----------
    is_first
        Whether it is made in one's own setting, or in the other's.
    """
    operation = _onto(host, other, own) if is_first else _onto(host, own, other)
    if operation is None:
        return None
    if is_first:
        return _middle(host, own, operation.of(other))
    middle = _middle(host, operation.of(own), other)
    return None if middle is None else operation.undone(middle)


def _middle(host: Host, own: Atoms, other: Atoms) -> Atoms | None:
    """Return the geometry half-way between two crystals in one setting; atoms as in the first."""
    here, there = (map_sites(host, atoms, _TOLERANCE).atom_at for atoms in (own, other))
    if not np.array_equal(here >= 0, there >= 0):
        return None
    mine, theirs = here[here >= 0], there[there >= 0]
    scaled = own.get_scaled_positions(wrap=False)
    step = other.get_scaled_positions(wrap=False)[theirs] - scaled[mine]
    step -= np.round(step)
    step -= step.mean(axis=0)
    scaled[mine] += step / 2
    return _placed(own, scaled, (own.cell.array + other.cell.array) / 2, "")


def in_one_setting(host: Host, frames: Sequence[Atoms]) -> list[Atoms]:
    """Return frames with the mid-points of two orders in one setting and one sequence of atoms.

    Then two labels on one geometry are seen as that. Forces turn along; all others stay as they
    are, and so does a mid-point whose partner is not there.
    """
    middles = {(str(one.info["decoration"]), _partner(one)): one for one in frames if _partner(one)}
    result = []
    for frame in frames:
        name, partner = str(frame.info.get("decoration", "")), _partner(frame)
        first = middles.get((partner, name)) if partner and partner < name else None
        result.append(frame if first is None else _turned_onto(host, frame, first))
    return result


def _partner(frame: Atoms) -> str:
    """Return the other order of a mid-point; "" for other frames."""
    tag = str(frame.info.get("tag", ""))
    return tag.partition(":")[2] if tag.startswith("hop") else ""


def _turned_onto(host: Host, frame: Atoms, first: Atoms) -> Atoms:
    """Return a frame as the image that has the geometry of another one; itself if there is none."""
    order = map_sites(host, first, _TOLERANCE).atom_at
    for operation in _operations(host):
        image = operation.of(frame)
        own = map_sites(host, image, _TOLERANCE).atom_at
        if not np.array_equal(own >= 0, order >= 0):
            continue
        sequence = np.empty(len(frame), dtype=int)
        sequence[order[order >= 0]] = own[own >= 0]
        turned = image[sequence]
        if not np.array_equal(turned.numbers, first.numbers) or _apart(turned, first) > _EQUAL:
            continue
        turned.set_scaled_positions(first.get_scaled_positions(wrap=False))
        turned.set_cell(first.cell, scale_atoms=True)
        turned.info = dict(frame.info)
        results = dict(frame.calc.results)
        if "forces" in results:
            results["forces"] = (results["forces"] @ operation.turn)[sequence]
        if "magmoms" in results:
            results["magmoms"] = np.asarray(results["magmoms"])[sequence]
        results.pop("stress", None)
        turned.calc = SinglePointCalculator(turned, **results)
        return turned
    return frame


def _apart(one: Atoms, other: Atoms) -> float:
    """Return the largest distance of equal atoms, in Å, a rigid shift apart; inf in other cells."""
    if np.abs(one.cell.array - other.cell.array).max() > _EQUAL:
        return np.inf
    between = one.get_scaled_positions(wrap=False) - other.get_scaled_positions(wrap=False)
    between -= np.round(between)
    between -= between.mean(axis=0)
    return float(np.linalg.norm(between @ one.cell.array, axis=1).max())


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
