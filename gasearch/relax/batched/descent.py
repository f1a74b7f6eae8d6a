"""Quasi-Newton steps with a trust radius, for rows of coordinates of one length."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gasearch.relax.batched.hessians import Curvature
from gasearch.relax.batched.state import Rows

TRUST = 0.2
"""Longest first step, in Å; a strain counts by what it does over `STRAIN_LENGTH`."""
LEAST_TRUST, MOST_TRUST = 0.01, 0.3
STRAIN_LENGTH = 5.0
"""Å."""
CLIMB = 2e-3
"""By how much the energy may rise in a step, in eV: the curvature learned is worth more."""
_LEAST_CURVATURE = 1e-3  # of the expected one
_MOST_CLIMBS = 3


@dataclass(eq=False)
class Descent(Rows):
    """One minimization per row.

    Parameters
    ----------
    curvature
        What is known of the second derivatives.
    base, gradient
        (R, D) where the last step began, and the gradient there.
    energy
        (R,) there, in eV; infinite before the first step.
    share
        (R,) how much of the step that the inverse Hessian proposes was made.
    trust
        (R,) longest step allowed, in Å.
    climbs
        (R,) int64, how many steps up there were since the last one down.
    """

    curvature: Curvature
    base: torch.Tensor
    gradient: torch.Tensor
    energy: torch.Tensor
    share: torch.Tensor
    trust: torch.Tensor
    climbs: torch.Tensor

    @classmethod
    def start(cls, curvature: Curvature, like: torch.Tensor) -> Descent:
        """Return minimizations that begin with this curvature, of rows (R, D)."""
        zero = torch.zeros_like(like)
        one = like.new_ones(len(like))
        climbs = torch.zeros_like(one, dtype=torch.int64)
        return cls(curvature, zero, zero, one * torch.inf, one, one * TRUST, climbs)

    @property
    def is_lost(self) -> torch.Tensor:
        """(R,) whether a row climbs again and again: it should start anew with `restart`."""
        return self.climbs >= _MOST_CLIMBS

    def learn(self, position: torch.Tensor, gradient: torch.Tensor, energy: torch.Tensor) -> None:
        """Take in what was found at new coordinates (R, D), and judge the step that led there."""
        began = self.energy.isfinite()
        step = torch.where(began[:, None], position - self.base, 0.0)
        self._update(step, torch.where(began[:, None], gradient - self.gradient, 0.0))
        predicted = (step * self.gradient).sum(1) * (1 - self.share / 2)  # negative
        change = torch.where(began, energy - self.energy, 0.0)
        rises = change > CLIMB
        self._adapt_trust(step, change / predicted.clamp(max=-1e-12), rises)
        self.climbs = torch.where(rises, self.climbs + 1, 0)
        self.base = torch.where(rises[:, None], self.base, position)
        self.gradient = torch.where(rises[:, None], self.gradient, gradient)
        self.energy = torch.where(rises, self.energy, energy)

    def propose(self) -> torch.Tensor:
        """Return where (R, D) to evaluate next."""
        step = -self.curvature.times(self.gradient)
        self.share = (self.trust / longest(step)).clamp(max=1.0)
        return self.base + self.share[:, None] * step

    def _update(self, step: torch.Tensor, change: torch.Tensor) -> None:
        """Learn the curvature along the last step from the change of the gradient."""
        curvature = (step * change).sum(1)
        expected = -self.share * (step * self.gradient).sum(1)
        learned = curvature > _LEAST_CURVATURE * expected
        self.curvature.update(step, change, torch.where(learned, curvature, 0.0))

    def _adapt_trust(self, step: torch.Tensor, ratio: torch.Tensor, rises: torch.Tensor) -> None:
        """Trust less after a step that did not keep its promise, more after a long one that did."""
        length = longest(step)
        grown = (ratio > 0.75) & (self.share < 1.0)
        trust = torch.where(grown, self.trust * 1.5, self.trust)
        trust = torch.where(rises, length / 3, trust)
        self.trust = trust.clamp(LEAST_TRUST, MOST_TRUST)


def longest(steps: torch.Tensor) -> torch.Tensor:
    """Return the longest move (R,) of an atom in steps (R, D), in Å; above zero."""
    rows = steps.unflatten(1, (-1, 3)).norm(dim=2)
    by_strain = rows[:, -3:].amax(1) * STRAIN_LENGTH
    return torch.maximum(rows[:, :-3].amax(1), by_strain).clamp(min=1e-12)
