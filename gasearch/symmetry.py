"""Symmetry of a host as permutations of its sites, and the canonical form that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spglib
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from gasearch.errors import GasearchError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_WORD_BITS = 52  # integers below 2^53 are exact in float64, and float64 products run in BLAS


class SymmetryError(GasearchError, ValueError):
    """A structure whose symmetry cannot be found, or does not map its sites onto each other."""


@dataclass(frozen=True, eq=False)
class SpaceGroup:
    """Space-group operations of a crystal, Cartesian: r -> rotation r + translation.

    Parameters
    ----------
    symbol
        International symbol and number, such as "Pnma (62)".
    primitive
        (3, 3) rows are the primitive lattice vectors, in Å.
    rotations
        (n, 3, 3).
    translations
        (n, 3), in Å, modulo the primitive lattice.
    """

    symbol: str
    primitive: Floats
    rotations: Floats
    translations: Floats


def find_space_group(
    cell: Floats, scaled_positions: Floats, kinds: Integers, symprec: float
) -> SpaceGroup:
    """Return the operations of the *primitive* cell, so that no larger input cell hides any.

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
    dataset = spglib.get_symmetry_dataset((cell, scaled_positions, kinds), symprec=symprec)
    if dataset is None:
        raise SymmetryError(
            f"spglib finds no symmetry of the host at symprec = {symprec} Å; "
            "two sites may coincide: check the structure, or change host.symprec."
        )
    primitive = np.asarray(dataset.primitive_lattice, dtype=float)
    _, first = np.unique(dataset.mapping_to_primitive, return_index=True)
    positions = (scaled_positions[first] @ cell) @ np.linalg.inv(primitive)
    operations = spglib.get_symmetry((primitive, positions, kinds[first]), symprec=symprec)
    if operations is None:
        raise SymmetryError(f"spglib finds no operations of the host at symprec = {symprec} Å.")
    basis = primitive.T
    rotations = basis @ operations["rotations"] @ np.linalg.inv(basis)
    return SpaceGroup(
        symbol=f"{dataset.international} ({dataset.number})",
        primitive=primitive,
        rotations=rotations,
        translations=operations["translations"] @ primitive,
    )


def site_permutations(
    group: SpaceGroup, supercell: Floats, positions: Floats, kinds: Integers, symprec: float
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
    kinds
        (n_sites,) only sites of equal kind may be mapped onto each other.
    """
    inverse = np.linalg.inv(supercell)
    images = supercell @ np.swapaxes(group.rotations, 1, 2) @ inverse
    keeps = np.abs(images - np.round(images)).max(axis=(1, 2)) < 1e-3
    shifts = lattice_points(group.primitive, supercell)
    tree = cKDTree(_wrapped(positions @ inverse), boxsize=1.0)
    tolerance = 10 * symprec / np.linalg.norm(supercell, axis=1).min()
    found = []
    for rotation, translation in zip(
        group.rotations[keeps], group.translations[keeps], strict=True
    ):
        moved = positions @ rotation.T + translation
        scaled = _wrapped((moved[None, :, :] + shifts[:, None, :]) @ inverse)
        distance, index = tree.query(scaled.reshape(-1, 3))
        if distance.max() > tolerance:
            raise SymmetryError(
                f"an operation of {group.symbol} does not map the sites onto each other within "
                f"{10 * symprec} Å: lower host.symprec or symmetrise the structure."
            )
        found.append(index.reshape(len(shifts), len(positions)))
    permutations = np.unique(np.concatenate(found), axis=0)
    if np.any(np.sort(permutations, axis=1) != np.arange(len(positions))):
        raise SymmetryError("an operation of the host maps two sites onto one: lower host.symprec.")
    if not np.all(kinds[permutations] == kinds):
        raise SymmetryError("an operation of the host maps unlike sites onto each other.")
    return permutations.astype(np.int64)


def lattice_points(primitive: Floats, supercell: Floats) -> Floats:
    """Return (n, 3) Cartesian points of the primitive lattice inside the supercell, in Å."""
    matrix = np.round(supercell @ np.linalg.inv(primitive)).astype(int)
    count = round(abs(np.linalg.det(matrix)))
    corners = np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1).T @ matrix
    low, high = corners.min(axis=0), corners.max(axis=0)
    grid = np.stack(
        np.meshgrid(*[np.arange(a, b + 1) for a, b in zip(low, high, strict=True)], indexing="ij"),
        axis=-1,
    ).reshape(-1, 3)
    fractional = grid @ np.linalg.inv(matrix)
    inside = np.all((fractional > -1e-9) & (fractional < 1 - 1e-9), axis=1)
    if inside.sum() != count:
        raise SymmetryError(
            f"found {inside.sum()} lattice points in a supercell of {count} primitive cells; "
            "the host's lattice may be distorted: lower host.symprec."
        )
    return grid[inside] @ primitive


def _wrapped(scaled: Floats) -> Floats:
    wrapped = scaled % 1.0
    wrapped[wrapped >= 1.0] = 0.0  # -1e-18 % 1 is 1
    return wrapped


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
        digits = [-(-int(bits[self._word == w].sum()) // 4) for w in range(self.n_words)]
        self._formats = [f"0{n}x" for n in digits]

    def canonical_words(self, occupations: NDArray[np.uint8]) -> tuple[Integers, Integers]:
        """Return canonical words (n, n_words) and orbit sizes (n,) of occupations (n, n_sites)."""
        digits = occupations.astype(np.float64)
        words = np.empty((len(digits), self.n_words), dtype=np.int64)
        images = digits @ self._weights[0]
        smallest = images.min(axis=1)
        words[:, 0] = smallest
        ties = images == smallest[:, None]
        for w in range(1, self.n_words):
            images = np.where(ties, digits @ self._weights[w], np.inf)
            smallest = images.min(axis=1)
            words[:, w] = smallest
            ties = images == smallest[:, None]
        return words, self.n_operations // ties.sum(axis=1)

    def is_canonical(self, occupations: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], Integers]:
        """Return (n,) whether each occupation is canonical already, and its orbit size (n,)."""
        words, orbit_sizes = self.canonical_words(occupations)
        own = np.zeros_like(words)
        for w in range(self.n_words):
            here = self._word == w
            own[:, w] = occupations[:, here] @ (1 << self._shift[here])
        return np.asarray(np.all(words == own, axis=1)), orbit_sizes

    def text(self, words: Integers) -> str:
        """Return the fingerprint of one row of canonical words, in hexadecimal."""
        return "".join(format(int(w), f) for w, f in zip(words, self._formats, strict=True))

    def occupation(self, fingerprint: str) -> NDArray[np.uint8]:
        """Return the canonical occupation (n_sites,) that a fingerprint names."""
        words, start = [], 0
        for width in (int(f[1:-1]) for f in self._formats):
            words.append(int(fingerprint[start : start + width], 16))
            start += width
        values = np.array(words, dtype=np.int64)[self._word]
        return ((values >> self._shift) & ((1 << self._bits) - 1)).astype(np.uint8)


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
