"""Quasi-Newton steps, and FIRE for those rows that get nowhere with them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gasearch.relax.batched.descent import Descent, longest
from gasearch.relax.batched.fire import Fire
from gasearch.relax.batched.hessians import Dense, LastSteps
from gasearch.relax.batched.state import Rows, State

DENSE_WIDTH = 157
"""Structures with more atoms learn from their last steps only."""
PATIENCE = 40
"""Calls without progress after which a structure goes on with FIRE."""
_LOWER_ENERGY = 1e-4  # eV
_LOWER_FORCE = 0.95


@dataclass(eq=False)
class Minimizer(Rows):
    """One minimization per row.

    Parameters
    ----------
    descent, fire
        The two ways; both know where the rows are.
    is_stuck
        (R,) whether a row goes on with FIRE.
    energy, force
        (R,) the lowest so far, in eV and eV/Å.
    waited
        (R,) int64, calls since one of them was lowered.
    """

    descent: Descent
    fire: Fire
    is_stuck: torch.Tensor
    energy: torch.Tensor
    force: torch.Tensor
    waited: torch.Tensor

    @classmethod
    def start(cls, state: State, width: int) -> Minimizer:
        """Return minimizations of structures that have rows of this width."""
        like = state.strains.new_zeros(len(state), 3 * width + 9)
        curvature = (Dense if width <= DENSE_WIDTH else LastSteps).start(state, width)
        far = like.new_full((len(like),), torch.inf)
        nothing = torch.zeros_like(far, dtype=torch.int64)
        return cls(
            Descent.start(curvature, like), Fire.start(like), nothing.bool(), far, far, nothing
        )

    def learn(self, position: torch.Tensor, gradient: torch.Tensor, energy: torch.Tensor) -> None:
        """Take in what was found at new coordinates (R, D)."""
        self.descent.learn(position, gradient, energy)
        self.fire.learn(position, gradient)
        self._watch(longest(gradient), energy)

    def propose(self) -> torch.Tensor:
        """Return where (R, D) to evaluate next."""
        proposed = self.descent.propose()
        if not bool(self.is_stuck.any()):
            return proposed
        proposed = torch.where(self.is_stuck[:, None], self.fire.propose(), proposed)
        self.fire.rest(~self.is_stuck)
        return proposed

    @property
    def is_lost(self) -> torch.Tensor:
        """(R,) whether a row climbs again and again: it should start anew with `restart`."""
        return self.descent.is_lost & ~self.is_stuck

    def restart(self, fresh: Minimizer) -> None:
        """Give the lost rows the second derivatives of new minimizations."""
        lost = self.is_lost
        self.descent.curvature.put(lost, fresh.descent.curvature)
        self.descent.climbs = torch.where(lost, 0, self.descent.climbs)

    def _watch(self, force: torch.Tensor, energy: torch.Tensor) -> None:
        """Count the calls without progress."""
        progress = (energy < self.energy - _LOWER_ENERGY) | (force < _LOWER_FORCE * self.force)
        self.waited = torch.where(progress, 0, self.waited + 1)
        self.energy = torch.minimum(self.energy, energy)
        self.force = torch.minimum(self.force, force)
        self.is_stuck = self.is_stuck | (self.waited >= PATIENCE)
