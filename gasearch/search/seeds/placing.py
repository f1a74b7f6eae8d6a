"""A structure's cell in the host's supercell: repeated, turned, strained; atoms put onto sites."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from numpy.typing import NDArray

from gasearch.crystal.host import Host
from gasearch.crystal.site_matching import SiteMapping, as_right_handed, map_sites
from gasearch.errors import DecorationError

MAX_STRAIN = 0.15
"""Largest stretch of the structure's lattice onto the host's: FePO4 onto NaFePO4 needs 0.07."""
TOLERANCE = 1.6
"""Largest distance between an atom and its site, in Å, as in `Decoration.from_atoms`."""
_TRIES = 64  # placements of the cell; a cubic lattice alone has 24 equal ones
_SAME = 1e-6
_CHUNK = 4096

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Placement:
    """A structure that fills the host's supercell, and which of its atoms is on which site."""

    atoms: Atoms
    mapping: SiteMapping


def place(host: Host, atoms: Atoms) -> Placement:
    """Return the placement whose atoms are nearest to the host's sites on average."""
    atoms = as_right_handed(atoms)
    n_repeats = _n_repeats(host, atoms)
    matrices = superlattices(atoms.cell.array, host.atoms.cell.array, n_repeats)
    if not len(matrices):
        raise DecorationError(
            f"its cell ({_cell_text(atoms)}) cannot be repeated and turned to the host's "
            f"supercell ({_cell_text(host.atoms)}) strained below {MAX_STRAIN:.0%}: change the "
            "supercell, or give the structure in a cell that this one contains."
        )
    best: Placement | None = None
    first_error: DecorationError | None = None
    for matrix in matrices[:_TRIES]:
        tiled = make_supercell(atoms, matrix)
        try:
            mapping = map_sites(host, tiled, TOLERANCE)
        except DecorationError as error:
            first_error = first_error or error
            continue
        if best is None or mapping.mean_shift < best.mapping.mean_shift - _SAME:
            best = Placement(tiled, mapping)
    if best is None:
        counted = f" (of its cell repeated {n_repeats} times)" if n_repeats > 1 else ""
        raise DecorationError(f"{first_error}{counted}")
    return best


def superlattices(cell: Floats, wanted: Floats, n_repeats: int) -> Ints:
    """Return (n, 3, 3) integer matrices that make `cell` a strained, turned `wanted`.

    Least strain first, of equal ones the least turned. No mirror images.

    Parameters
    ----------
    cell, wanted
        (3, 3), rows are lattice vectors, in Å, right-handed.
    n_repeats
        Determinant of the matrices.
    """
    rows = [_vectors_like(cell, vector) for vector in wanted]
    matrices = _with_determinant(n_repeats, *_pairs(cell, wanted, rows[0], rows[1]), rows[2])
    if not len(matrices):
        return matrices
    stretches = np.linalg.svd(np.linalg.inv(matrices @ cell) @ wanted, compute_uv=False)
    strain = np.abs(np.log(stretches)).max(axis=1)
    total = np.round(np.linalg.norm(np.log(stretches), axis=1), 6)
    fits = np.flatnonzero(strain <= np.log1p(MAX_STRAIN))
    turned = -np.trace(matrices, axis1=1, axis2=2)
    keys = [(total[n], turned[n], matrices[n].ravel().tolist(), n) for n in fits.tolist()]
    return matrices[[n for *_, n in sorted(keys)]]


def _vectors_like(cell: Floats, wanted: Floats) -> Ints:
    """Return (n, 3) lattice vectors, in units of the cell, about as long as a wanted vector."""
    length = float(np.linalg.norm(wanted))
    longest, shortest = length * (1 + MAX_STRAIN), length / (1 + MAX_STRAIN)
    limits = np.floor(longest * np.linalg.norm(np.linalg.inv(cell), axis=0) + _SAME).astype(int)
    ranges = [np.arange(-n, n + 1) for n in limits]
    grid = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    lengths = np.linalg.norm(grid @ cell, axis=1)
    return np.asarray(grid[(lengths <= longest + _SAME) & (lengths >= shortest - _SAME)])


def _pairs(cell: Floats, wanted: Floats, first: Ints, second: Ints) -> tuple[Ints, Ints]:
    """Return (n, 3) and (n, 3) the vectors at about the angle of the first two wanted ones."""
    directions = [
        v / np.linalg.norm(v, axis=1, keepdims=True) for v in (first @ cell, second @ cell)
    ]
    cosines = directions[0] @ directions[1].T
    lengths = np.linalg.norm(wanted, axis=1)
    cosine = wanted[0] @ wanted[1] / (lengths[0] * lengths[1])
    a, b = np.nonzero(np.abs(cosines - cosine) <= 2.5 * MAX_STRAIN)
    return first[a], second[b]


def _with_determinant(determinant: int, first: Ints, second: Ints, third: Ints) -> Ints:
    """Return (n, 3, 3) the matrices of paired first and second rows (m, 3) and any third one."""
    found = [np.zeros((0, 3, 3), dtype=np.int64)]
    for start in range(0, len(first), _CHUNK):
        a, b = first[start : start + _CHUNK], second[start : start + _CHUNK]
        pair, row = np.nonzero(np.cross(a, b) @ third.T == determinant)
        found.append(np.stack([a[pair], b[pair], third[row]], axis=1))
    return np.concatenate(found)


def _n_repeats(host: Host, atoms: Atoms) -> int:
    """Return how many of the structure's cells fill the host's supercell; ions may be absent."""
    ions = {e for s in host.sublattices if s.holds_vacancies for e in s.elements}
    known = {*ions, *host.atoms.symbols, *(e for s in host.sublattices for e in s.elements)}
    foreign = [symbol for symbol in dict.fromkeys(atoms.symbols) if symbol not in known]
    if foreign:
        raise DecorationError(
            f"it holds {', '.join(foreign)}, which no site of the host may hold "
            f"({', '.join(sorted(known))}): give a structure of this host."
        )
    own = Counter(symbol for symbol in atoms.symbols if symbol not in ions)
    wanted = Counter(symbol for symbol in host.atoms.symbols if symbol not in ions)
    n_repeats = round(wanted.total() / max(1, own.total()))
    free = {e for s in host.sublattices if s.is_free for e in s.elements}
    fits = own.total() * n_repeats == wanted.total() and all(
        own[symbol] * n_repeats == n for symbol, n in wanted.items() if symbol not in free
    )
    if not fits or n_repeats < 1:
        raise DecorationError(
            f"{atoms.get_chemical_formula()} does not fit a whole number of times into the host "
            f"{host.atoms.get_chemical_formula()}: change the supercell, or check the structure."
        )
    return n_repeats


def _cell_text(atoms: Atoms) -> str:
    a, b, c, *angles = atoms.cell.cellpar()
    return f"{a:.3g} {b:.3g} {c:.3g} Å, " + " ".join(f"{angle:.3g}" for angle in angles) + "°"
