"""Which atom of a structure sits on which site of a host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gasearch.errors import DecorationError

if TYPE_CHECKING:
    from gasearch.crystal.declaration import Sublattice
    from gasearch.crystal.host import Host

_FAR = 1e3  # Å; the cost of a pair that does not match
_CLOSE = 0.5  # Å; a framework that is distorted less on average needs no other origin


@dataclass(frozen=True, eq=False)
class SiteMapping:
    """Which atom fills which site, and how far from it.

    Parameters
    ----------
    atom_at
        (n_host_atoms,) index of the atom on each site of the host; -1 where there is none.
    largest_shift, mean_shift
        Of the atoms from their sites, in Å in the host's cell, after the strain of the cell and a
        rigid shift are taken out.
    """

    atom_at: NDArray[np.int64]
    largest_shift: float
    mean_shift: float


def match_sites(host: Host, atoms: Atoms, tolerance: float) -> NDArray[np.uint8]:
    """Return the occupation (n_sites,) of atoms that lie near the host's sites.

    Species go by the element and by `initial_charges`, and where a sublattice holds several spin
    states of one ion by `initial_magmoms`; see `Decoration.from_atoms`.
    """
    _refuse_unfit_framework(host, atoms)
    atoms = as_right_handed(atoms)
    scaled = atoms.get_scaled_positions() - _framework_shift(host, atoms)
    return _occupation(host, atoms, _mobile_atoms(host, atoms, scaled, tolerance))


def map_sites(host: Host, atoms: Atoms, tolerance: float) -> SiteMapping:
    """Return which atom fills which site, framework included; charges are not looked at.

    Parameters
    ----------
    atoms
        In the host's supercell, strained and shifted at most.
    tolerance
        Largest distance, in Å, between an atom and its site.
    """
    _refuse_unfit_framework(host, atoms)
    atoms = as_right_handed(atoms)
    scaled = atoms.get_scaled_positions() - _framework_shift(host, atoms)
    atom_at = _mobile_atoms(host, atoms, scaled, tolerance)
    sites = np.flatnonzero(~_is_mobile_site(host))
    here = np.flatnonzero(~np.isin(atoms.symbols, _mobile(host)))
    distance = np.linalg.norm(_vectors(host, atoms, sites, scaled[here]), axis=2)
    distance[host.atoms.numbers[sites][:, None] != atoms.numbers[here][None, :]] = _FAR
    rows, columns = linear_sum_assignment(distance)
    atom_at[sites[rows]] = here[columns]
    shifts = _shifts(host, atoms, scaled, atom_at)
    if shifts.max() > tolerance:
        atom = int(atom_at[atom_at >= 0][shifts.argmax()])
        raise DecorationError(
            f"atom {atom} ({atoms.symbols[atom]}) is {shifts.max():.2f} Å from its site, more "
            f"than {tolerance:g} Å."
        )
    return SiteMapping(atom_at, float(shifts.max()), float(shifts.mean()))


def as_right_handed(atoms: Atoms) -> Atoms:
    """Return the same crystal with a right-handed cell, as the host's own cell was made."""
    if atoms.cell.handedness < 0:
        atoms = atoms.copy()
        atoms.set_cell(-atoms.cell.array)
    return atoms


def _shifts(
    host: Host, atoms: Atoms, scaled: NDArray[np.float64], atom_at: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return (n,) distances in Å, in the host's cell, of the filled sites' atoms."""
    filled = np.flatnonzero(atom_at >= 0)
    own = host.atoms.get_scaled_positions()[filled]
    _, operation = minkowski_reduce(atoms.cell.array)
    inverse = np.linalg.inv(operation)
    difference = (scaled[atom_at[filled]] - own) @ inverse
    vectors = (difference - np.round(difference)) @ operation @ host.atoms.cell.array
    return np.asarray(np.linalg.norm(vectors - vectors.mean(axis=0), axis=1))


def _mobile_atoms(
    host: Host, atoms: Atoms, scaled: NDArray[np.float64], tolerance: float
) -> NDArray[np.int64]:
    """Return (n_host_atoms,) the atom on each site that sublattice elements fill; else -1."""
    here = np.flatnonzero(np.isin(atoms.symbols, _mobile(host)))
    sites = np.flatnonzero(_is_mobile_site(host))
    distance = np.linalg.norm(_vectors(host, atoms, sites, scaled[here]), axis=2)
    fits = _may_hold(host, sites, atoms.symbols[here]) & (distance <= tolerance)
    rows, columns = linear_sum_assignment(np.where(fits, distance, _FAR))
    matched = fits[rows, columns]
    left = np.setdiff1d(here, here[columns[matched]])
    if len(left):
        raise DecorationError(
            f"atom {left[0]} ({atoms.symbols[int(left[0])]}) is farther than {tolerance:g} Å from "
            "every site that may hold it, or a nearer atom is there."
        )
    atom_at = np.full(len(host.atoms), -1)
    atom_at[sites[rows[matched]]] = here[columns[matched]]
    return atom_at


def _occupation(host: Host, atoms: Atoms, atom_at: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the digits (n_sites,) of atoms by host site; -1 stands for none."""
    charges = atoms.get_initial_charges()
    moments = atoms.arrays.get("initial_magmoms")
    occupation = np.zeros(host.n_sites, dtype=np.uint8)
    for sublattice in host.sublattices:
        digits_of: dict[tuple[str, int], list[int]] = {}
        for digit, species in enumerate(sublattice.species):
            digits_of.setdefault((species.element, species.charge), []).append(digit)
        for place, atom in enumerate(atom_at[sublattice.sites], start=sublattice.start):
            symbol = atoms.symbols[int(atom)] if atom >= 0 else ""
            charge = round(float(charges[atom])) if atom >= 0 else 0
            if (symbol, charge) not in digits_of:
                found = f"atom {atom} is {symbol} with charge {charge:+d}" if symbol else "no atom"
                raise DecorationError(
                    f"{found} on site {host.sites[place]}, which holds "
                    f"{', '.join(map(str, sublattice.species))}: set initial_charges to formal "
                    "oxidation states, and check that the structure belongs to this host."
                )
            moment = None if moments is None else float(moments[atom])
            occupation[place] = _by_spin(sublattice, digits_of[symbol, charge], moment, int(atom))
    return occupation


def _by_spin(sublattice: Sublattice, digits: list[int], moment: float | None, atom: int) -> int:
    """Return which digit of one ion in several spin states a moment is nearest to."""
    if len(digits) == 1:
        return digits[0]
    if moment is None:
        states = " or ".join(str(sublattice.species[digit]) for digit in digits)
        raise DecorationError(
            f"atom {atom} may be {states}, and has no moment that would tell: set initial_magmoms."
        )
    return min(digits, key=lambda digit: abs(sublattice.species[digit].moment - abs(moment)))


def _mobile(host: Host) -> list[str]:
    """Return the elements that may sit on sublattices."""
    return sorted({e for s in host.sublattices for e in s.elements})


def _is_mobile_site(host: Host) -> NDArray[np.bool_]:
    """Return (n_atoms,) whether a site of the host holds an element that sublattices hold too."""
    result = np.isin(host.atoms.symbols, _mobile(host))
    result[host.sites] = True
    return np.asarray(result)


def _may_hold(host: Host, sites: NDArray[np.int64], symbols: list[str]) -> NDArray[np.bool_]:
    """Return (n_sites, n_symbols) whether a site of the host may hold an element."""
    allowed = [{host.atoms.symbols[int(i)]} for i in range(len(host.atoms))]
    for sublattice in host.sublattices:
        for site in sublattice.sites:
            allowed[site] = set(sublattice.elements)
    table = [[symbol in allowed[site] for symbol in symbols] for site in sites]
    return np.array(table, dtype=bool).reshape(len(sites), len(symbols))


def _refuse_unfit_framework(host: Host, atoms: Atoms) -> None:
    mobile = _mobile(host)
    wanted = sorted(s for s in host.atoms.symbols if s not in mobile)
    if atoms.cell.rank < 3 or sorted(s for s in atoms.symbols if s not in mobile) != wanted:
        raise DecorationError(
            f"the structure {atoms.get_chemical_formula()} does not have the framework of the "
            f"host {host.atoms.get_chemical_formula()}: check the supercell."
        )


def _vectors(
    host: Host, atoms: Atoms, sites: NDArray[np.int64], scaled: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (n_sites, n_atoms, 3) vectors in Å from sites to atoms, in the structure's cell.

    Shortest images by rounding in the reduced cell: exact for all that are near.
    """
    own = host.atoms.get_scaled_positions()[sites]
    reduced, operation = minkowski_reduce(atoms.cell.array)
    difference = (scaled[None, :, :] - own[:, None, :]) @ np.linalg.inv(operation)
    return np.asarray((difference - np.round(difference)) @ reduced)


def _framework_shift(host: Host, atoms: Atoms) -> NDArray[np.float64]:
    """Return (3,) how far the framework of a structure is shifted, in fractional coordinates.

    Tried are no shift, and those that take one atom of the rarest element to each of its sites in
    one unit cell: the others differ by translations of the host.
    """
    sites = np.flatnonzero(~_is_mobile_site(host))
    here = np.flatnonzero(~np.isin(atoms.symbols, _mobile(host)))
    if not len(sites):
        return np.zeros(3)
    numbers, names = host.atoms.numbers[sites], atoms.numbers[here]
    rarest = min(set(names.tolist()), key=lambda n: (np.count_nonzero(names == n), n))
    scaled = atoms.get_scaled_positions()[here]
    first = (numbers == rarest) & (sites < len(host.declaration.unit_cell))
    origins = host.atoms.get_scaled_positions()[sites][first]
    best, lowest = np.zeros(3), np.inf
    for shift in [np.zeros(3), *(scaled[names == rarest][0] - origins)]:
        vectors = _vectors(host, atoms, sites, scaled - shift)
        distance = np.linalg.norm(vectors, axis=2)
        distance[numbers[:, None] != names[None, :]] = _FAR
        matched = vectors[linear_sum_assignment(distance)]
        spread = np.linalg.norm(matched - matched.mean(axis=0), axis=1).mean()
        if spread < lowest - 1e-3:
            best = shift + matched.mean(axis=0) @ np.linalg.inv(atoms.cell.array)
            lowest = spread
        if lowest < _CLOSE:
            break
    return np.asarray(best)
