"""The long-range half of an Ewald sum over point charges, for a batch of neutral cells.

The short-range half, q q erfc(splitting r)/r, belongs to the pair sum of the potential that uses
this. A neutral cell needs no background term; the surface term is that of a metal around the
crystal (tin foil), as everywhere in periodic codes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from ase.units import Bohr, Hartree

from gasearch.potentials.contract import Batch
from gasearch.potentials.pairs import PairTable

COULOMB = Hartree * Bohr
"""e^2/(4 pi epsilon_0), in eV Å."""


@dataclass(frozen=True)
class Splitting:
    """Where an Ewald sum is cut in two.

    Parameters
    ----------
    inverse_width
        Of the screening Gaussians, in 1/Å.
    reach
        The sum over waves ends at a wave number of 2 inverse_width reach.
    """

    inverse_width: float
    reach: float

    @classmethod
    def for_cutoff(cls, cutoff: float, reach: float = 4.8) -> Splitting:
        """Return the splitting whose two sums, cut at `cutoff` Å and `reach`, err alike.

        The terms left out weigh exp(-reach^2): 1e-10 for 4.8.
        """
        return cls(reach / cutoff, reach)

    @property
    def longest_wave_vector(self) -> float:
        """In 1/Å."""
        return 2 * self.inverse_width * self.reach


def reciprocal_sum(
    batch: Batch, table: PairTable, charges: torch.Tensor, splitting: Splitting
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return energies (B,), forces (N, 3) and strain derivatives (B, 3, 3) of the smooth charges.

    Parameters
    ----------
    charges
        (N,) partial charges, in e.
    """
    q = torch.cat([charges, charges.new_zeros(1)])[table.slots]  # (B, n)
    reciprocal = 2 * math.pi * torch.linalg.inv(batch.cells).transpose(1, 2)
    volumes = torch.linalg.det(batch.cells).abs()
    whole = _waves(batch.cells, reciprocal, splitting.longest_wave_vector)
    waves = whole.to(reciprocal.dtype) @ reciprocal  # (B, K, 3)
    squares = (waves * waves).sum(2)
    narrow = 1 / (4 * splitting.inverse_width**2)
    weights = torch.exp(-narrow * squares) / squares
    weights = weights * (squares <= splitting.longest_wave_vector**2)
    weights = weights * (4 * math.pi * COULOMB / volumes)[:, None]

    cosines, sines = _phases(batch, table, whole)  # (B, K, n)
    charge_cosines = torch.matmul(cosines, q[:, :, None]).squeeze(2)
    charge_sines = torch.matmul(sines, q[:, :, None]).squeeze(2)
    terms = weights * (charge_cosines**2 + charge_sines**2)

    left = (2 * weights * charge_cosines)[:, None, :] * waves.transpose(1, 2)  # (B, 3, K)
    right = (2 * weights * charge_sines)[:, None, :] * waves.transpose(1, 2)
    pulls = torch.matmul(left, sines) - torch.matmul(right, cosines)  # (B, 3, n)
    inside = table.slots < len(charges)
    forces = (pulls.transpose(1, 2) * q[:, :, None])[inside]

    bent = 2 * terms * (1 / squares + narrow)
    strain = torch.matmul((waves * bent[:, :, None]).transpose(1, 2), waves)
    own = _self_energy(q, splitting)
    energies = terms.sum(1)
    strain = strain - energies[:, None, None] * torch.eye(3, dtype=q.dtype, device=q.device)
    return energies + own, forces, strain


def _self_energy(q: torch.Tensor, splitting: Splitting) -> torch.Tensor:
    return -COULOMB * splitting.inverse_width / math.sqrt(math.pi) * (q * q).sum(1)


def _waves(cells: torch.Tensor, reciprocal: torch.Tensor, longest: float) -> torch.Tensor:
    """Return whole wave numbers (K, 3), one of each opposite pair, that any of the cells needs."""
    lengths = cells.norm(dim=2).amax(0)
    a, b, c = (longest * lengths / (2 * math.pi)).floor().tolist()
    grid = _half_grid(int(a), int(b), int(c), cells.device)
    squares = (grid.to(cells.dtype) @ reciprocal).square().sum(2)
    return grid[(squares <= longest**2).any(0)]


@lru_cache(maxsize=64)
def _half_grid(a: int, b: int, c: int, device: torch.device) -> torch.Tensor:
    """Return the whole numbers (K, 3) within these bounds; of +m and -m one, and not zero."""
    grid = itertools.product(range(a + 1), range(-b, b + 1), range(-c, c + 1))
    return torch.tensor([m for m in grid if m > (0, 0, 0)], dtype=torch.int64, device=device)


def _phases(
    batch: Batch, table: PairTable, whole: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosine and sine (B, K, n) of the phase of each wave at each atom.

    Products of the waves along the three axes: far fewer trigonometric functions.
    """
    padded = torch.cat([batch.positions, batch.positions.new_zeros(1, 3)])[table.slots]
    angles = 2 * math.pi * torch.matmul(padded, torch.linalg.inv(batch.cells))  # (B, n, 3)
    reach = whole.abs().amax(0).tolist()
    factors = []
    for axis in range(3):
        orders = torch.arange(-reach[axis], reach[axis] + 1, device=whole.device)
        phase = orders[:, None] * angles[:, None, :, axis]  # (B, 2 reach + 1, n)
        axis_waves = torch.polar(torch.ones_like(phase), phase)
        factors.append(axis_waves.index_select(1, whole[:, axis] + reach[axis]))
    product = factors[0] * factors[1] * factors[2]
    return product.real.contiguous(), product.imag.contiguous()
