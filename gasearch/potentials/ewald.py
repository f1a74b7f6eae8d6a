"""The long-range half of an Ewald sum over point charges, for a batch of neutral cells.

The short-range half, q q erfc(splitting r)/r, belongs to the pair sum of the potential that uses
this. A neutral cell needs no background term; the surface term is that of a metal around the
crystal (tin foil), as everywhere in periodic codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from ase.units import Bohr, Hartree

from gasearch.potentials.pairs import Crystals

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
    crystals: Crystals, charges: torch.Tensor, splitting: Splitting
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return energies (B,), forces (B, n, 3) and strain derivatives (B, 3, 3) of smooth charges.

    Waves are products of one along the first cell vector (A of them) and one along the other two
    (C), so that all sums over waves and atoms are matrix products.

    Parameters
    ----------
    charges
        (B, n) partial charges by slot, in e.
    """
    reciprocal = 2 * math.pi * crystals.inverses.transpose(1, 2)
    orders, whole = _orders(*_reach(crystals.cells, splitting), crystals.cells.device)
    waves = torch.matmul(whole, reciprocal)  # (B, A C, 3)
    squares = (waves * waves).sum(2)
    weights = _weights(squares, whole, crystals.volumes, splitting)
    first, others = _axis_waves(crystals.fractional, orders)  # (B, A, n), (B, C, n)
    structure = torch.matmul(first * charges[:, None], others.transpose(1, 2)).flatten(1)
    terms = weights * (structure.real.square() + structure.imag.square())

    pulls = (weights * structure.conj())[:, None] * waves.transpose(1, 2)  # (B, 3, A C)
    rows = pulls.unflatten(2, (len(orders[0]), -1)).flatten(1, 2)  # (B, 3 A, C)
    partial = torch.matmul(rows, others).unflatten(1, (3, -1))  # (B, 3, A, n)
    forces = (partial * first[:, None]).imag.sum(2) * (2 * charges[:, None])

    bent = 2 * terms * (1 / squares + 1 / (4 * splitting.inverse_width**2))
    strain = torch.matmul((waves * bent[:, :, None]).transpose(1, 2), waves)
    energies = terms.sum(1)
    strain.diagonal(dim1=1, dim2=2).sub_(energies[:, None])
    return energies + _self_energy(charges, splitting), forces.transpose(1, 2), strain


def _weights(
    squares: torch.Tensor, whole: torch.Tensor, volumes: torch.Tensor, splitting: Splitting
) -> torch.Tensor:
    """Return what each wave and its opposite (B, K) count, in eV/e^2; zero beyond the reach.

    Where the first order is 0 both are in the list and share; the constant wave counts nothing.
    """
    squares[:, (whole == 0).all(1)] = math.inf
    scale = 4 * math.pi * COULOMB / volumes
    weights = torch.exp(squares * (-1 / (4 * splitting.inverse_width**2))) / squares
    weights *= squares <= splitting.longest_wave_vector**2
    weights *= torch.where(whole[:, 0] == 0, 0.5, 1.0)
    return weights * scale[:, None]


def _self_energy(charges: torch.Tensor, splitting: Splitting) -> torch.Tensor:
    own = -COULOMB * splitting.inverse_width / math.sqrt(math.pi)
    return own * (charges * charges).sum(1)


def _reach(cells: torch.Tensor, splitting: Splitting) -> tuple[int, int, int]:
    """Return the highest orders that the longest wave vector can have in any of the cells."""
    lengths = cells.norm(dim=2).amax(0)
    a, b, c = (lengths * (splitting.longest_wave_vector / (2 * math.pi))).tolist()
    return int(a), int(b), int(c)


@lru_cache(maxsize=64)
def _orders(
    a: int, b: int, c: int, device: torch.device
) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """Return the orders along each axis, and all (K, 3) of their combinations, float64.

    Of opposite ones those with a positive first order suffice.
    """
    axes = (range(a + 1), range(-b, b + 1), range(-c, c + 1))
    orders = tuple(torch.tensor([*axis], dtype=torch.float64, device=device) for axis in axes)
    return orders, torch.cartesian_prod(*orders)


def _axis_waves(
    fractional: torch.Tensor, orders: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the waves (B, A, n) along the first axis and (B, C, n) along the others, complex."""
    along = []
    for axis, order in enumerate(orders):
        phase = (2 * math.pi * order[:, None]) * fractional[:, None, :, axis]
        along.append(torch.complex(torch.cos(phase), torch.sin(phase)))
    return along[0], (along[1][:, :, None] * along[2][:, None]).flatten(1, 2)
