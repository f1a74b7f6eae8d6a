"""Bond valence sums: how oxidised a site looks by the lengths of its bonds to anions.

V is the sum over anions of exp((R - d) / 0.37 Å) (Brown and Altermatt, Acta Cryst. B 41, 244
(1985)), with one R for all oxidation states of an element (O'Keeffe and Brese, J. Am. Chem. Soc.
113, 3226 (1991)), so that three states lie on one curve. It ends smoothly at R + 1.45 Å, where a
bond is worth two hundredths.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from gasearch.crystal.species import Species
from gasearch.errors import UsageError
from gasearch.potentials.contract import Batch
from gasearch.potentials.networks.network import Edges, find_edges

SOFTNESS = 0.37
"""Å, of all bonds."""
REACH = 1.45
"""Å beyond R, where a bond ends."""
_FADES_OVER = 0.5  # Å before that


class NoBondParameterError(UsageError):
    """A bond that the table of O'Keeffe and Brese does not have."""

    def __init__(self, cation: str, anion: str) -> None:
        super().__init__(cation, anion)
        self.cation = cation
        self.anion = anion

    def __str__(self) -> str:
        return (
            f"no bond parameter is known for {self.cation}-{self.anion}: {self.cation} cannot be "
            'held by bonds; hold = "moments" needs a potential with moments.'
        )


def bond_lengths(cations: Iterable[str], anions: Iterable[str]) -> dict[str, float]:
    """Return the lengths in Å of bonds of valence 1, by "Fe-O", from pymatgen's table.

    Raises
    ------
    NoBondParameterError
        For an element that the table lacks.
    """
    from pymatgen.analysis.bond_valence import BV_PARAMS

    table = {str(element): (entry["r"], entry["c"]) for element, entry in BV_PARAMS.items()}
    lengths = {}
    for cation in sorted(cations):
        for anion in sorted(anions):
            if cation not in table or anion not in table:
                raise NoBondParameterError(cation, anion)
            (r1, c1), (r2, c2) = table[cation], table[anion]
            overlap = r1 * r2 * (math.sqrt(c1) - math.sqrt(c2)) ** 2 / (c1 * r1 + c2 * r2)
            lengths[f"{cation}-{anion}"] = r1 + r2 - overlap
    return lengths


@dataclass(frozen=True, eq=False)
class Valences:
    """Valence sums of some sites, with what forces follow from.

    Parameters
    ----------
    sums
        (N,) of all atoms; zero for those that are no cation of the table.
    site, anion, system
        (M,) of each bond: its two atoms and its structure.
    directions
        (M, 3) unit vectors from site to anion.
    distances
        (M,) in Å.
    slopes
        (M,) change of the bond's valence with its length, in 1/Å.
    """

    sums: torch.Tensor
    site: torch.Tensor
    anion: torch.Tensor
    system: torch.Tensor
    directions: torch.Tensor
    distances: torch.Tensor
    slopes: torch.Tensor


class ValenceTable:
    """The lengths of bonds of valence 1, by atomic numbers, on a device.

    Parameters
    ----------
    lengths
        In Å, by "Fe-O".
    """

    def __init__(self, lengths: Mapping[str, float], device: str = "cpu") -> None:
        table = torch.full((len(chemical_symbols),) * 2, -math.inf, dtype=torch.float64)
        for bond, length in lengths.items():
            cation, _, anion = bond.partition("-")
            table[atomic_numbers[cation], atomic_numbers[anion]] = length
        self._table = table.to(device)
        self.cutoff = max(lengths.values(), default=0.0) + REACH

    def sums(self, batch: Batch, edges: Edges | None = None) -> Valences:
        """Return the valence sums of a batch.

        Parameters
        ----------
        edges
            All pairs at least as far as `cutoff`, in both directions; found here if None.
        """
        if edges is None:
            edges = find_edges(batch, self.cutoff)
        is_bond = (batch.charges[edges.i] > 0) & (batch.charges[edges.j] < 0)
        lengths = self._table[batch.numbers[edges.i], batch.numbers[edges.j]]
        keep = is_bond & lengths.isfinite()
        i, j, system, lengths = edges.i[keep], edges.j[keep], edges.system[keep], lengths[keep]
        shifts = torch.bmm(edges.offsets[keep][:, None], batch.cells[system])[:, 0]
        vectors = batch.positions[j] + shifts - batch.positions[i]
        distances = vectors.norm(dim=1)
        valences, slopes = _bond(distances, lengths)
        sums = batch.positions.new_zeros(len(batch.positions)).index_add(0, i, valences)
        directions = vectors / distances.clamp(min=1e-9)[:, None]
        return Valences(sums, i, j, system, directions, distances, slopes)


def _bond(distances: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return valence and its slope (1/Å) of bonds (M,)."""
    bare = torch.exp((lengths - distances) / SOFTNESS)
    t = ((lengths + REACH - distances) / _FADES_OVER).clamp(0.0, 1.0)
    fade = t**3 * (10 - 15 * t + 6 * t**2)
    fade_slope = -(30 * t**2 * (1 - t) ** 2) / _FADES_OVER
    return bare * fade, bare * (fade_slope - fade / SOFTNESS)


class BondReader:
    """Reads oxidation states off a geometry, by valence sums: a reader for the audit.

    Parameters
    ----------
    lengths
        As `bond_lengths` gives them.
    ranges
        Lowest and highest valence sum of each species.
    """

    quantity = "bond valence sum"

    def __init__(
        self, lengths: Mapping[str, float], ranges: Mapping[Species, tuple[float, float]]
    ) -> None:
        self.ranges = ranges
        self._table = ValenceTable(lengths)

    def read(self, atoms: Atoms) -> NDArray[np.float64]:
        """Return valence sums (n_atoms,)."""
        sums = self._table.sums(Batch.from_atoms([atoms])).sums
        return np.asarray(sums.numpy(), dtype=np.float64)
