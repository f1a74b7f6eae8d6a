"""The cell that a search starts from: the primitive one, averaged where a file is noisy."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import spglib
from ase import Atoms
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray

from gasearch.crystal.declaration import HostError, right_handed
from gasearch.crystal.io.structures import HostStructure

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EXACT = 0.01
"""Å; the symmetry of a crystal from a refinement or an ideal host is exact to this."""
_OFFERED = (0.03, 0.1, 0.2, 0.3, 0.5)  # Å; larger ones map different atoms onto each other
_DISTORTED = 0.2  # Å; beyond, a higher symmetry alone is not worth a word
_N_AVERAGES = 4  # translations of operations are known as well as the atoms that give them

WhichCell = Literal["primitive", "file"]


@dataclass(frozen=True, eq=False)
class SmallestCell:
    """The primitive cell of a structure, averaged over all that is equivalent.

    Parameters
    ----------
    structure
        Of the primitive cell, in the orientation of the file.
    symbol
        International symbol and number of the space group, such as "R-3c (167)".
    n_operations
        Of the space group in the primitive cell.
    largest_shift
        Of the atoms of the file from the averaged places, in Å.
    """

    structure: HostStructure
    symbol: str
    n_operations: int
    largest_shift: float

    @property
    def n_sites(self) -> int:
        """Sites of the primitive cell."""
        return len(self.structure.atoms)


@dataclass(frozen=True, eq=False)
class ChosenCell:
    """What a host is made of.

    Parameters
    ----------
    structure
        As it is in the file, or the cell in its place.
    is_file
        Whether it is the file's own.
    suffix
        Of the name of the new file: "primitive" or "averaged".
    lines
        What was done, and what could be done instead, each as a sentence.
    """

    structure: HostStructure
    is_file: bool
    suffix: str = ""
    lines: tuple[str, ...] = ()


def choose_cell(
    structure: HostStructure, which: WhichCell = "primitive", symprec: float | None = None
) -> ChosenCell:
    """Return the cell that a search starts from.

    Parameters
    ----------
    which
        "primitive": the smaller cell where the file's is centred or a supercell; "file": as it is.
    symprec
        In Å: average the crystal to the symmetry that it has within this. By default a crystal is
        left as it is, and what a larger tolerance would find is said.
    """
    if which == "file":
        return ChosenCell(structure, is_file=True)
    found = smallest_cell(structure, EXACT if symprec is None else symprec)
    if symprec is not None:
        return _averaged(structure, found, symprec)
    offers = tuple(_offers(structure, found))
    if found.n_sites == len(structure.atoms):
        return ChosenCell(structure, is_file=True, lines=offers)
    line = (
        f"the cell of {structure.path.name} ({len(structure.atoms)} sites) is "
        f"{len(structure.atoms) // found.n_sites} primitive cells of {found.symbol}: the search "
        f"takes the primitive one ({found.n_sites} sites); --cell file keeps the other"
    )
    return ChosenCell(found.structure, False, "primitive", (line, *offers))


def _averaged(structure: HostStructure, found: SmallestCell, symprec: float) -> ChosenCell:
    line = (
        f"{structure.path.name} ({len(structure.atoms)} sites) averaged to {found.symbol} with "
        f"{found.n_sites} sites: within symprec = {symprec:g} Å; its atoms lie up to "
        f"{found.largest_shift:.3f} Å from there"
    )
    return ChosenCell(found.structure, False, "averaged", (line,))


def _offers(structure: HostStructure, found: SmallestCell) -> Iterable[str]:
    """Yield a line on the tolerance at which a structure is a smaller crystal."""
    best, tolerance = found, EXACT
    for symprec in _OFFERED:
        try:
            other = smallest_cell(structure, symprec)
        except HostError:
            continue
        is_higher = other.n_operations > best.n_operations and symprec <= _DISTORTED
        if other.n_sites < best.n_sites or (other.n_sites == best.n_sites and is_higher):
            best, tolerance = other, symprec
    if best is not found:
        yield (
            f"within {tolerance:g} Å it is {best.symbol} with {best.n_sites} sites, not "
            f"{found.symbol} with {found.n_sites}: --symprec {tolerance:g} averages it (its atoms "
            f"lie up to {best.largest_shift:.3f} Å from there)"
        )


def smallest_cell(structure: HostStructure, symprec: float) -> SmallestCell:
    """Return the averaged primitive cell that a structure has within a tolerance in Å.

    First over the translations of the crystal, then over its space group, so that a noisy cell
    shows the symmetry that its average has.
    """
    atoms = right_handed(structure.atoms)
    kinds = _kinds(structure)
    cell, _ = minkowski_reduce(atoms.cell.array)
    scaled = atoms.positions @ np.linalg.inv(cell)
    shifts, images = _translations(cell, scaled, kinds, symprec)
    primitive = _primitive(cell, shifts)
    first, site_of = np.unique(images.min(axis=0), return_inverse=True)
    places = np.array([_mean_place(scaled, shifts, images[:, n], n) for n in first])
    places = places @ cell @ np.linalg.inv(primitive)
    averaged = _symmetrised(primitive, places, kinds[first], symprec)
    if averaged is None:
        raise HostError(
            f"{structure.path}: spglib finds no symmetry at symprec = {symprec:g} Å: two sites "
            "may coincide; check the structure, or choose another tolerance."
        )
    new_cell, new_places, symbol, n_operations = averaged
    own = scaled @ cell @ np.linalg.inv(primitive)
    differences = own - new_places[site_of]
    far = np.linalg.norm((differences - np.round(differences)) @ new_cell, axis=1).max()
    symbols = [structure.atoms.symbols[int(n)] for n in first]
    whole = np.round(new_places, 12) % 1.0
    small = Atoms(symbols, scaled_positions=whole, cell=new_cell, pbc=True)
    rows = _rows(structure, first, site_of, small)
    return SmallestCell(rows, symbol, n_operations, float(far))


def _kinds(structure: HostStructure) -> Integers:
    """Return (n,) equal numbers for sites that hold the same."""
    texts = [str({e: round(s, 3) for e, s in own.items()}) for own in structure.shares]
    order = sorted(set(texts))
    return np.array([order.index(text) for text in texts])


def _translations(
    cell: Floats, scaled: Floats, kinds: Integers, symprec: float
) -> tuple[Floats, Integers]:
    """Return the translations (m, 3) of a crystal, a group, and the sites (m, n) they lead to."""
    rarest = min(Counter(kinds.tolist()).items(), key=lambda item: (item[1], item[0]))[0]
    alike = np.flatnonzero(kinds == rarest)
    found: dict[tuple[int, ...], Integers] = {}
    for site in alike:
        image, shift = _image(cell, scaled, kinds, scaled[site] - scaled[alike[0]], 2 * symprec)
        if image is not None:
            exact = np.round(shift * len(alike)).astype(int) % len(alike)
            found.setdefault(tuple(exact.tolist()), image)
    group = _subgroup(list(found), len(alike))
    return np.array(group) / len(alike), np.array([found[shift] for shift in group])


def _image(
    cell: Floats, scaled: Floats, kinds: Integers, shift: Floats, near: float
) -> tuple[Integers | None, Floats]:
    """Return where a translation takes each site (None: not onto others), and its best value."""
    difference = (scaled + shift)[:, None, :] - scaled[None, :, :]
    difference -= np.round(difference)
    distance = np.linalg.norm(difference @ cell, axis=2)
    distance[kinds[:, None] != kinds[None, :]] = np.inf
    image = distance.argmin(axis=1)
    own = difference[np.arange(len(scaled)), image]
    left = own - own.mean(axis=0)
    fits = len(np.unique(image)) == len(image)
    fits = fits and np.linalg.norm(left @ cell, axis=1).max() <= near
    return (image if fits else None), shift - own.mean(axis=0)


def _subgroup(shifts: list[tuple[int, ...]], n: int) -> list[tuple[int, ...]]:
    """Return shifts (modulo n) that are closed under addition, as many as can be."""
    known: set[tuple[int, ...]] = set(shifts)
    group: set[tuple[int, ...]] = {(0, 0, 0)}
    for shift in shifts:
        larger = set(group)
        step = shift
        while step not in group:
            larger |= {tuple((a + b) % n for a, b in zip(own, step, strict=True)) for own in group}
            step = tuple((a + b) % n for a, b in zip(step, shift, strict=True))
        if larger <= known:
            group = larger
    return sorted(group)


def _primitive(cell: Floats, shifts: Floats) -> Floats:
    """Return the shortest vectors (3, 3), right-handed, of the lattice of all translations."""
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    points = (shifts[:, None, :] + steps[None, :, :]).reshape(-1, 3)
    lengths = np.linalg.norm(points @ cell, axis=1).round(6)
    points = points[np.lexsort((*-points.T[::-1].round(9), lengths))]
    points = points[np.linalg.norm(points, axis=1) > 1e-9]
    first = points[0]
    second = points[(np.linalg.norm(np.cross(points, first), axis=1) > 1e-9).argmax()]
    volumes = points @ np.cross(first, second) * len(shifts)
    third = points[(np.abs(np.abs(volumes) - 1) < 1e-6).argmax()]
    vectors = np.array([first, second, third])
    return np.asarray(vectors * np.sign(np.linalg.det(vectors)) @ cell)


def _mean_place(scaled: Floats, shifts: Floats, images: Integers, site: int) -> Floats:
    difference = scaled[images] - scaled[site] - shifts
    return np.asarray(scaled[site] + (difference - np.round(difference)).mean(axis=0))


def _symmetrised(
    cell: Floats, places: Floats, kinds: Integers, symprec: float
) -> tuple[Floats, Floats, str, int] | None:
    """Return cell, places, symbol and number of operations, averaged over the space group."""
    found: Any = None
    for _ in range(_N_AVERAGES):
        found = _dataset((cell, places, kinds), symprec)
        if found is None:
            return None
        total = np.zeros_like(places)
        for rotation, translation in zip(found.rotations, found.translations, strict=True):
            difference = (places @ rotation.T + translation)[:, None, :] - places[None, :, :]
            difference -= np.round(difference)
            distance = np.linalg.norm(difference @ cell, axis=2)
            distance[kinds[:, None] != kinds[None, :]] = np.inf
            image = distance.argmin(axis=1)
            total[image] += difference[np.arange(len(places)), image]
        places = places + total / len(found.rotations)
        cell = _averaged_cell(cell, found.rotations.astype(np.int64))
    return cell, places, f"{found.international} ({found.number})", len(found.rotations)


def _dataset(crystal: Any, symprec: float) -> Any:
    """Return what spglib finds, or None: by version it raises or returns None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return spglib.get_symmetry_dataset(crystal, symprec=symprec)
        except Exception:  # noqa: BLE001 -- spglib's own kinds
            return None


def _averaged_cell(cell: Floats, rotations: Integers) -> Floats:
    """Return the cell that all rotations (in its own basis) leave as it is, not turned."""
    metric = cell @ cell.T
    mean = np.mean([r.T @ metric @ r for r in rotations], axis=0)
    return np.asarray(_root(mean) @ np.linalg.inv(_root(metric)) @ cell)


def _root(metric: Floats) -> Floats:
    values, vectors = np.linalg.eigh(metric)
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)


def _rows(
    structure: HostStructure, first: Integers, site_of: Integers, atoms: Atoms
) -> HostStructure:
    """Return the structure of the sites `first`, with what the file says of all like them."""
    charges = structure.charges
    return replace(
        structure,
        atoms=atoms,
        shares=tuple(structure.shares[n] for n in first),
        labels=tuple(structure.labels[n] for n in first),
        states=tuple(structure.states[n] for n in first) if structure.states else (),
        charges=None if charges is None else _common(charges, site_of),
        moments=None,
    )


def _common(values: Floats, site_of: Integers) -> Floats:
    """Return the value of each site of the primitive cell; NaN where its copies differ."""
    groups = [values[site_of == n] for n in range(site_of.max() + 1)]
    return np.array([own[0] if np.all(own == own[0]) else np.nan for own in groups])


_CIF = """\
data_{name}
# {comment}
_cell_length_a     {0:.10f}
_cell_length_b     {1:.10f}
_cell_length_c     {2:.10f}
_cell_angle_alpha  {3:.10f}
_cell_angle_beta   {4:.10f}
_cell_angle_gamma  {5:.10f}
_space_group_name_H-M_alt  'P 1'
_space_group_IT_number     1
loop_
  _space_group_symop_operation_xyz
  'x, y, z'
loop_
  _atom_site_label
  _atom_site_type_symbol
  _atom_site_occupancy
  _atom_site_fract_x
  _atom_site_fract_y
  _atom_site_fract_z
"""


def cif_of(structure: HostStructure, name: str, comment: str) -> str:
    """Return a structure as a CIF in P1, with its occupancies and oxidation states."""
    rows = []
    places = structure.atoms.get_scaled_positions()
    for n, (shares, place) in enumerate(zip(structure.shares, places, strict=True)):
        states = structure.stated(n)
        where = "  ".join(f"{value:.10f}" for value in place)
        for element, share in shares.items():
            kind = f"{element}{_state_text(states, element)}"
            rows.append(f"  {element}{n}  {kind}  {share:.6g}  {where}")
    lengths = structure.atoms.cell.cellpar()
    head = _CIF.format(*lengths, name=name, comment=comment)
    return "\n".join([head.rstrip(), *rows, ""])


def _state_text(states: Mapping[str, float], element: str) -> str:
    state = states.get(element)
    if state is None:
        return ""
    return f"{abs(state):g}{'-' if state < 0 else '+'}"
