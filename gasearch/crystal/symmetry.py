"""Symmetry of a host as permutations of its sites, and the canonical form that follows from it."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray

from gasearch.errors import GasearchError, UsageError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_CHUNK_NUMBERS = 200_000  # images that are compared at once: a few MB stay in the cache
_WORD_BITS = 52  # integers below 2^53 are exact in float64, and float64 products run in BLAS


class SymmetryError(UsageError):
    """A structure whose symmetry cannot be found, or does not map its sites onto each other."""


class FingerprintError(GasearchError, ValueError):
    """A text that is no canonical form of the host at hand."""

    def __init__(self, text: str, length: int) -> None:
        super().__init__(text, length)
        self.text = text
        self.length = length

    def __str__(self) -> str:
        return (
            f"{self.text!r} is no fingerprint of this host: expected {self.length} hexadecimal "
            "digits, the smallest of all equivalent decorations."
        )


@dataclass(frozen=True, eq=False)
class SpaceGroup:
    """Space-group operations of a crystal, in the basis of its *primitive* cell.

    Positions are fractional coordinates f of the primitive cell; an operation takes f to
    rotation f + translation. Integers wherever the lattice is concerned, so that a noisy cell
    loses no operation.

    Parameters
    ----------
    symbol
        International symbol and number, such as "Pnma (62)".
    primitive
        (3, 3) rows are the primitive lattice vectors, in Å; right-handed.
    rotations
        (n, 3, 3).
    translations
        (n, 3).
    positions
        (n_primitive, 3) of the sites of the primitive cell.
    site_of
        (n_unit,) the primitive site that each site of the input cell repeats.
    kinds
        (n_primitive,) sites with equal numbers count as alike.
    """

    symbol: str
    primitive: Floats
    rotations: Integers
    translations: Floats
    positions: Floats
    site_of: Integers
    kinds: Integers


def find_space_group(
    cell: Floats, scaled_positions: Floats, kinds: Integers, symprec: float
) -> SpaceGroup:
    """Return the operations of the primitive cell, so that no larger input cell hides any.

    Parameters
    ----------
    cell
        (3, 3), rows are lattice vectors, in Å.
    scaled_positions
        (n, 3).
    kinds
        (n,) sites with equal numbers count as alike.
    symprec
        Distance tolerance, in Å.
    """
    dataset = _spglib_dataset((cell, scaled_positions, kinds), symprec)
    repeats = np.round(cell @ np.linalg.inv(np.asarray(dataset.primitive_lattice)))
    if np.linalg.det(repeats) < 0:
        repeats = -repeats
    primitive = np.linalg.inv(repeats) @ cell
    _, first, site_of = np.unique(
        dataset.mapping_to_primitive, return_index=True, return_inverse=True
    )
    positions = scaled_positions[first] @ repeats
    operations = _spglib_dataset((primitive, positions, kinds[first]), symprec)
    return SpaceGroup(
        symbol=f"{dataset.international} ({dataset.number})",
        primitive=primitive,
        rotations=np.asarray(operations.rotations, dtype=np.int64),
        translations=np.asarray(operations.translations, dtype=np.float64),
        positions=positions,
        site_of=site_of,
        kinds=kinds[first],
    )


def cell_operations(
    cell: Floats, scaled_positions: Floats, kinds: Integers, symprec: float
) -> tuple[Integers, Floats]:
    """Return the operations of a cell as it is: rotations (n, 3, 3), translations (n, 3).

    On fractional coordinates f of that cell: rotation f + translation. Parameters as in
    `find_space_group`.
    """
    dataset = _spglib_dataset((cell, scaled_positions, kinds), symprec)
    rotations = np.asarray(dataset.rotations, dtype=np.int64)
    return rotations, np.asarray(dataset.translations, dtype=np.float64)


def _spglib_dataset(crystal: tuple[Any, Any, Any], symprec: float) -> Any:
    """Return what spglib finds; nothing found is an error of ours, in old and new versions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of returning None instead of raising
        try:
            found = spglib.get_symmetry_dataset(crystal, symprec=symprec)
        except Exception as error:
            raise SymmetryError(_no_symmetry_text(symprec)) from error
    if found is None:
        raise SymmetryError(_no_symmetry_text(symprec))
    return found


def _no_symmetry_text(symprec: float) -> str:
    return (
        f"spglib finds no symmetry of the host at symprec = {symprec:g} Å: two sites may coincide; "
        "check the structure, or change host.symprec."
    )


def site_permutations(
    group: SpaceGroup, supercell: Floats, positions: Floats, unit_sites: Integers, symprec: float
) -> Integers:
    """Return (n_operations, n_sites): `result[g, i]` is the site that operation g takes site i to.

    All operations of the space group that map the supercell's lattice onto itself, times the
    primitive translations inside the supercell; operations that act alike on the sites are one.

    Parameters
    ----------
    supercell
        (3, 3), rows are lattice vectors, in Å.
    positions
        (n_sites, 3), Cartesian, in Å.
    unit_sites
        (n_sites,) the site of the unit cell that each site repeats.
    """
    lattice = Superlattice(np.round(supercell @ np.linalg.inv(group.primitive)).astype(np.int64))
    basis = group.site_of[unit_sites]
    fractional = positions @ np.linalg.inv(supercell) @ lattice.matrix
    cells = np.round(fractional - group.positions[basis]).astype(np.int64)
    own = lattice.codes(basis, cells)
    order = np.argsort(own)
    shifts = lattice.points()
    found = []
    for rotation, translation in zip(group.rotations, group.translations, strict=True):
        if not lattice.is_kept_by(rotation):
            continue
        image, offset = _images(group, np.unique(basis), rotation, translation, symprec)
        moved = cells @ rotation.T + offset[basis]
        codes = lattice.codes(image[basis], moved[None, :, :] + shifts[:, None, :])
        found.append(order[np.searchsorted(own, codes, sorter=order).clip(max=len(own) - 1)])
        if np.any(own[found[-1]] != codes):
            raise SymmetryError(f"an operation of {group.symbol} leaves the host's sites.")
    return np.unique(np.concatenate(found), axis=0).astype(np.int64)


def _images(
    group: SpaceGroup, sites: Integers, rotation: Integers, translation: Floats, symprec: float
) -> tuple[Integers, Integers]:
    """Return where an operation takes primitive sites; zeros for sites that were not asked for.

    As (n_primitive,) sites of the primitive cell and (n_primitive, 3) lattice vectors.
    """
    image = np.zeros(len(group.positions), dtype=np.int64)
    offset = np.zeros((len(group.positions), 3), dtype=np.int64)
    moved = group.positions[sites] @ rotation.T + translation
    difference = moved[:, None, :] - group.positions[None, :, :]
    nearest = np.round(difference)
    distance = np.linalg.norm((difference - nearest) @ group.primitive, axis=2)
    distance[group.kinds[sites][:, None] != group.kinds[None, :]] = np.inf
    image[sites] = distance.argmin(axis=1)
    if distance.min(axis=1).max() > 10 * symprec or len(np.unique(image[sites])) < len(sites):
        raise SymmetryError(
            f"an operation of {group.symbol} does not map the sites onto each other within "
            f"{10 * symprec:g} Å: lower host.symprec or symmetrise the structure."
        )
    offset[sites] = nearest[np.arange(len(sites)), image[sites]]
    return image, offset


class Superlattice:
    """A supercell of a lattice, in integers: rows of `matrix` are its vectors."""

    def __init__(self, matrix: Integers) -> None:
        """Take a (3, 3) matrix of positive determinant."""
        self.matrix = matrix
        self.n_cells = round(float(np.linalg.det(matrix)))
        self._adjugate = np.round(np.linalg.inv(matrix) * self.n_cells).astype(np.int64)

    def is_kept_by(self, rotation: Integers) -> bool:
        """Whether a rotation of the lattice maps the supercell onto itself."""
        return bool(np.all(self.matrix @ rotation.T @ self._adjugate % self.n_cells == 0))

    def points(self) -> Integers:
        """Return (n_cells, 3) the lattice points inside the supercell."""
        corners = np.array(list(itertools.product((0, 1), repeat=3))) @ self.matrix
        ranges = [
            range(a, b + 1) for a, b in zip(corners.min(axis=0), corners.max(axis=0), strict=True)
        ]
        grid = np.array(list(itertools.product(*ranges)), dtype=np.int64)
        scaled = grid @ self._adjugate
        return np.asarray(grid[np.all((scaled >= 0) & (scaled < self.n_cells), axis=1)])

    def codes(self, sites: Integers, cells: Integers) -> Integers:
        """Return (...) numbers, equal for equal sites (...) in equivalent cells (..., 3)."""
        residues = cells @ self._adjugate % self.n_cells
        code = sites * self.n_cells + residues[..., 0]
        code = code * self.n_cells + residues[..., 1]
        return np.asarray(code * self.n_cells + residues[..., 2])


class Canonicalizer:
    """Smallest image of a decoration under a permutation group, for many decorations at once.

    The digits of a decoration are bits of a few float64 words (52 bits each), so that all images
    are one matrix product per word; the smallest image is the canonical form, without a hash.
    """

    def __init__(self, permutations: Integers, n_species: Integers) -> None:
        """Prepare for sites that hold one of `n_species[i]` species each."""
        bits = np.maximum(1, np.ceil(np.log2(np.maximum(2, n_species))).astype(int))
        self._word, self._shift = _layout(bits)
        self._bits = bits
        self.n_words = int(self._word[-1]) + 1 if len(bits) else 1
        self.n_operations, n_sites = permutations.shape
        self._weights = np.zeros((self.n_words, n_sites, self.n_operations))
        sites = np.arange(n_sites)
        for g, permutation in enumerate(permutations):
            target = permutation[sites]
            self._weights[self._word[target], sites, g] = 2.0 ** self._shift[target]
        self._own_weights = np.zeros((n_sites, self.n_words))
        self._own_weights[sites, self._word] = 2.0**self._shift
        self._chunk = max(1, _CHUNK_NUMBERS // self.n_operations)
        digits = [-(-int(bits[self._word == w].sum()) // 4) for w in range(self.n_words)]
        self._formats = [f"0{n}x" for n in digits]

    def canonical_words(self, occupations: NDArray[np.uint8]) -> tuple[Integers, Integers]:
        """Return canonical words (n, n_words) and orbit sizes (n,) of occupations (n, n_sites)."""
        words = np.empty((len(occupations), self.n_words), dtype=np.int64)
        orbit_sizes = np.empty(len(occupations), dtype=np.int64)
        for start in range(0, len(occupations), self._chunk):
            part = slice(start, start + self._chunk)
            self._canonical_chunk(occupations[part], words[part], orbit_sizes[part])
        return words, orbit_sizes

    def _canonical_chunk(
        self, occupations: NDArray[np.uint8], words: Integers, orbit_sizes: Integers
    ) -> None:
        """Fill in the words and orbit sizes of so many occupations as fit the cache."""
        digits = occupations.astype(np.float64)
        images = digits @ self._weights[0]
        words[:, 0] = smallest = images.min(axis=1)
        ties = images == smallest[:, None]
        for w in range(1, self.n_words):
            images = np.where(ties, digits @ self._weights[w], np.inf)
            words[:, w] = smallest = images.min(axis=1)
            ties = images == smallest[:, None]
        orbit_sizes[:] = self.n_operations // np.count_nonzero(ties, axis=1)

    def is_canonical(self, occupations: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], Integers]:
        """Return (n,) whether each occupation is canonical already, and its orbit size (n,)."""
        words, orbit_sizes = self.canonical_words(occupations)
        own = occupations.astype(np.float64) @ self._own_weights
        return np.asarray(np.all(words == own, axis=1)), orbit_sizes

    def first_rows(self, occupations: NDArray[np.uint8]) -> dict[str, int]:
        """Return the fingerprints of occupations (n, n_sites), each with the first row that has it.

        In the order of these rows.
        """
        words, _ = self.canonical_words(occupations)
        _, first = np.unique(words, axis=0, return_index=True)
        return {self.text(words[row]): int(row) for row in np.sort(first)}

    def text(self, words: Integers) -> str:
        """Return the fingerprint of one row of canonical words, in hexadecimal."""
        return "".join(format(int(w), f) for w, f in zip(words, self._formats, strict=True))

    def occupation(self, fingerprint: str) -> NDArray[np.uint8]:
        """Return the canonical occupation (n_sites,) that a fingerprint names."""
        widths = [int(f[1:-1]) for f in self._formats]
        if len(fingerprint) != sum(widths) or not set(fingerprint) <= set("0123456789abcdef"):
            raise FingerprintError(fingerprint, sum(widths))
        ends = list(itertools.accumulate(widths))
        parts = [fingerprint[end - n : end] for end, n in zip(ends, widths, strict=True)]
        values = np.array([int(part, 16) for part in parts], dtype=np.int64)[self._word]
        digits = (values >> self._shift) & ((1 << self._bits) - 1)
        occupation: NDArray[np.uint8] = digits.astype(np.uint8)
        if not self.is_canonical(occupation[None])[0][0]:
            raise FingerprintError(fingerprint, sum(widths))
        return occupation


def _layout(bits: NDArray[np.int64]) -> tuple[Integers, Integers]:
    """Return the word and the shift of every site."""
    words, shifts = [], []
    word = used = 0
    for size in bits:
        if used + size > _WORD_BITS:
            word, used = word + 1, 0
        words.append(word)
        shifts.append(used)
        used += int(size)
    return np.array(words, dtype=np.int64), np.array(shifts, dtype=np.int64)
