"""The model of ionic springs of `gasearch.relax.hessian`, for a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from ase.units import Bohr, Hartree

from gasearch.potentials.contract import Batch
from gasearch.relax.batched.bonds import Bonds, find_bonds, squared_lengths
from gasearch.relax.hessian import ELASTIC, ON_SITE, REACH

_SHORTEST = 1.0  # Å; atoms on top of each other are no spring without end


@dataclass(frozen=True, eq=False)
class Springs:
    """Pairs of ions of which at least one is an anion, each counted once.

    Parameters
    ----------
    bonds
        M pairs.
    stretches
        (M, 5, 3) derivative of its length, times the root of its stiffness, by the positions of its
        ends and by the three rows of the strain.
    """

    bonds: Bonds
    stretches: torch.Tensor

    @classmethod
    def of(cls, batch: Batch) -> Springs:
        """Return the springs of a batch."""
        bonds = find_bonds(batch, REACH)
        charges = batch.charges
        bonds = bonds.chosen((charges[bonds.first] < 0) | (charges[bonds.second] < 0))
        vectors = bonds.vectors(batch)
        lengths = squared_lengths(vectors).sqrt().clamp(min=_SHORTEST)
        axes = vectors / lengths[:, None]
        products = (charges[bonds.first] * charges[bonds.second]).abs().to(lengths.dtype)
        stiffness = Hartree * Bohr * products / lengths**3
        strains = axes[:, :, None] * vectors[:, None]
        stretches = torch.cat([-axes[:, None], axes[:, None], strains], dim=1)
        scale = stiffness.sqrt()[:, None, None]
        return cls(bonds, stretches * scale)


def model_hessian(batch: Batch, width: int) -> torch.Tensor:
    """Return second derivatives (B, 3 width + 9, 3 width + 9) by positions and strain.

    Slots without an atom are held by the on-site part alone.
    """
    springs = Springs.of(batch)
    size = width + 3
    ends = _ends(batch, springs, width)
    places = (springs.bonds.system[:, None] * size + ends)[:, :, None] * size + ends[:, None]
    blocks = springs.stretches[:, :, None, :, None] * springs.stretches[:, None, :, None]
    summed = blocks.new_zeros(len(batch) * size * size, 9)
    summed.index_add_(0, places.flatten(), blocks.reshape(-1, 9))
    hessian = summed.view(len(batch), size, size, 3, 3).transpose(2, 3).flatten(1, 2).flatten(2)
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    diagonal[:, :-9] += ON_SITE
    diagonal[:, -9:] += (ELASTIC * torch.linalg.det(batch.cells))[:, None]
    return hessian


def model_inverse(batch: Batch, width: int, cell_free: torch.Tensor) -> torch.Tensor:
    """Return inverses of the model Hessian; of its part for positions where the cell is fixed."""
    hessian = model_hessian(batch, width)
    free = torch.ones(hessian.shape[:2], dtype=torch.bool, device=hessian.device)
    free[:, -9:] = cell_free[:, None]
    hessian = torch.where(free[:, :, None] & free[:, None], hessian, 0.0)
    hessian.diagonal(dim1=1, dim2=2)[~free] = 1.0
    # contiguous, as it is after a join: else the order of sums depends on who came when
    return torch.cholesky_inverse(torch.linalg.cholesky(hessian)).contiguous()


def _ends(batch: Batch, springs: Springs, width: int) -> torch.Tensor:
    """Return in which slots (M, 5) of its structure a spring ends; the strain has the last 3."""
    counts = torch.bincount(batch.system, minlength=len(batch))
    offset = (counts.cumsum(0) - counts)[springs.bonds.system]
    strain = torch.arange(width, width + 3, device=offset.device).expand(len(offset), 3)
    first, second = springs.bonds.first - offset, springs.bonds.second - offset
    return torch.cat([first[:, None], second[:, None], strain], dim=1)
