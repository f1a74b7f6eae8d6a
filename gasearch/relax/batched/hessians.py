"""What a minimization learns of the second derivatives: all of them, or the last steps.

Both begin with the model of ionic springs of `gasearch.relax.hessian`, here for a batch. Products
are sums over a row, which do not depend on the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from ase.units import Bohr, Hartree

from gasearch.potentials.contract import Batch
from gasearch.relax.batched.neighbours import Bonds, find_bonds, squared_lengths
from gasearch.relax.batched.state import Rows, State
from gasearch.relax.hessian import ELASTIC, ON_SITE, REACH, SHORTEST

HISTORY = 24
"""Steps that `LastSteps` remembers."""


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
        lengths = squared_lengths(vectors).sqrt().clamp(min=SHORTEST)
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


@dataclass(eq=False)
class Dense(Rows):
    """All second derivatives, by the BFGS formula for their inverse.

    The inverse needs no factorisation: a step costs two products with a vector and one update of
    rank two.

    Parameters
    ----------
    inverse
        (R, D, D).
    """

    inverse: torch.Tensor

    @classmethod
    def start(cls, state: State, width: int) -> Dense:
        """Return the model's second derivatives, for structures with rows of this width."""
        return cls(model_inverse(state.batch(), width, state.cell_free))

    def times(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the inverse Hessian times rows (R, D)."""
        return product(self.inverse, rows)

    def update(self, step: torch.Tensor, change: torch.Tensor, along: torch.Tensor) -> None:
        """Learn from steps (R, D) and changes of the gradient (R, D).

        Parameters
        ----------
        along
            (R,) their scalar products; 0 where there is nothing to learn.
        """
        learned = (along > 0)[:, None]
        safe = torch.where(along > 0, along, 1.0)[:, None]
        moved = self.times(change)
        weight = (1 + (change * moved).sum(1)[:, None] / safe) / safe
        half = torch.where(learned, weight * step / 2 - moved / safe, 0.0)
        outer = step[:, :, None] * half[:, None]
        self.inverse.add_(outer + outer.transpose(1, 2))


@dataclass(eq=False)
class LastSteps(Rows):
    """The last steps only, on top of a model that stays (L-BFGS): for large structures.

    A step reads the matrix once, where `Dense` reads and writes it several times.

    Parameters
    ----------
    model
        (R, D, D), inverse model Hessian.
    steps, changes
        (R, HISTORY, D), oldest first.
    weights
        (R, HISTORY), one over their scalar products; 0 where there is no step yet.
    """

    model: torch.Tensor
    steps: torch.Tensor
    changes: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def start(cls, state: State, width: int) -> LastSteps:
        """Return the model's second derivatives, for structures with rows of this width."""
        model = model_inverse(state.batch(), width, state.cell_free)
        none = model.new_zeros(len(model), HISTORY, 3 * width + 9)
        return cls(model, none, none.clone(), none[:, :, 0].clone())

    def times(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the inverse Hessian times rows (R, D): the two loops of Nocedal (1980)."""
        result = rows
        shares = []
        for k in reversed(range(HISTORY)):
            share = self.weights[:, k] * (self.steps[:, k] * result).sum(1)
            result = result - share[:, None] * self.changes[:, k]
            shares.append(share)
        result = product(self.model, result)
        for k in range(HISTORY):
            back = self.weights[:, k] * (self.changes[:, k] * result).sum(1)
            result = result + (shares.pop() - back)[:, None] * self.steps[:, k]
        return result

    def update(self, step: torch.Tensor, change: torch.Tensor, along: torch.Tensor) -> None:
        """Learn from steps and changes of the gradient."""
        learned = along > 0
        weight = torch.where(learned, 1 / torch.where(learned, along, 1.0), 0.0)
        latest = (("steps", step), ("changes", change), ("weights", weight))
        for name, value in latest:
            known = getattr(self, name)
            moved_on = torch.cat([known[:, 1:], value[:, None]], dim=1)
            flags = learned.view(-1, *[1] * (known.dim() - 1))
            setattr(self, name, torch.where(flags, moved_on, known))


def product(matrices: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return symmetric matrices (R, D, D) times rows (R, D)."""
    return (matrices * rows[:, None]).sum(2)


Curvature: TypeAlias = Dense | LastSteps
"""An inverse Hessian for each row, kept positive by its user's choice of steps."""
