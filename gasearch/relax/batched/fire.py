"""FIRE (Bitzek et al., Phys. Rev. Lett. 2006, 97, 170201): slow, and hard to lead astray.

It knows no curvature and no energy: what makes no progress otherwise, because the energy is noisy
or does not fit the forces, goes on with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gasearch.relax.batched.descent import STRAIN_LENGTH, longest
from gasearch.relax.batched.state import Rows

_FIRST_STEP, _LONGEST_STEP = 0.1, 1.0
_FASTER, _SLOWER = 1.1, 0.5
_FIRST_MIXING, _LESS_MIXING = 0.1, 0.99
_PATIENCE = 5
_LONGEST_MOVE = 0.2  # Å


@dataclass(eq=False)
class Fire(Rows):
    """One minimization per row.

    Parameters
    ----------
    base, gradient
        (R, D) where the rows are, and the gradient there.
    velocity
        (R, D) of atoms, and of the strain times a length.
    step, mixing
        (R,) time step and how much of the velocity follows the force.
    downhill
        (R,) int64, steps since the velocity last pointed uphill.
    """

    base: torch.Tensor
    gradient: torch.Tensor
    velocity: torch.Tensor
    step: torch.Tensor
    mixing: torch.Tensor
    downhill: torch.Tensor

    @classmethod
    def start(cls, like: torch.Tensor) -> Fire:
        """Return minimizations at rest, of rows (R, D)."""
        zero, one = torch.zeros_like(like), like.new_ones(len(like))
        never = torch.zeros_like(one, dtype=torch.int64)
        return cls(zero, zero, zero, _FIRST_STEP * one, _FIRST_MIXING * one, never)

    def learn(self, position: torch.Tensor, gradient: torch.Tensor) -> None:
        """Take in the gradient (R, D) at new coordinates (R, D)."""
        self.base, self.gradient = position, gradient

    def propose(self) -> torch.Tensor:
        """Return where (R, D) to evaluate next."""
        scale = torch.ones_like(self.gradient)
        scale[:, -9:] = 1 / STRAIN_LENGTH
        force = -self.gradient * scale
        uphill = (force * self.velocity).sum(1) < 0
        self._adapt(uphill)
        speed = self.velocity.norm(dim=1) / force.norm(dim=1).clamp(min=1e-12)
        along = self.mixing[:, None] * (speed[:, None] * force - self.velocity)
        mixed = torch.where(uphill[:, None], 0.0, self.velocity + along)
        self.velocity = mixed + self.step[:, None] * force
        move = self.step[:, None] * self.velocity * scale
        return self.base + move * (_LONGEST_MOVE / longest(move)).clamp(max=1.0)[:, None]

    def rest(self, resting: torch.Tensor) -> None:
        """Put some rows (R,) back to where they start from."""
        self.velocity = torch.where(resting[:, None], 0.0, self.velocity)
        self.step = torch.where(resting, _FIRST_STEP, self.step)
        self.mixing = torch.where(resting, _FIRST_MIXING, self.mixing)
        self.downhill = torch.where(resting, 0, self.downhill)

    def _adapt(self, uphill: torch.Tensor) -> None:
        """Slow down after a step uphill; speed up after a while of going down."""
        self.downhill = torch.where(uphill, 0, self.downhill + 1)
        steady = self.downhill > _PATIENCE
        step = torch.where(steady, self.step * _FASTER, self.step).clamp(max=_LONGEST_STEP)
        self.step = torch.where(uphill, self.step * _SLOWER, step)
        mixing = torch.where(steady, self.mixing * _LESS_MIXING, self.mixing)
        self.mixing = torch.where(uphill, _FIRST_MIXING, mixing)
