"""Quasi-Newton steps with a trust radius, and FIRE for those rows that get nowhere with them.

Everything is done for rows of coordinates of one length, one minimization per row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gasearch.relax.batched.hessians import Curvature, Dense, LastSteps
from gasearch.relax.batched.state import Rows, State

DENSE_WIDTH = 157
"""Structures with more atoms learn from their last steps only."""
PATIENCE = 40
"""Calls without progress after which a structure goes on with FIRE."""
_LOWER_ENERGY = 1e-4  # eV
_LOWER_FORCE = 0.95

TRUST = 0.2
"""Longest first step, in Å; a strain counts by what it does over `STRAIN_LENGTH`."""
LEAST_TRUST, MOST_TRUST = 0.01, 0.3
STRAIN_LENGTH = 5.0
"""Å."""
CLIMB = 2e-3
"""By how much the energy may rise in a step, in eV: the curvature learned is worth more."""
_LEAST_CURVATURE = 1e-3  # of the expected one
_MOST_CLIMBS = 3

_FIRST_STEP, _LONGEST_STEP = 0.1, 1.0
_FASTER, _SLOWER = 1.1, 0.5
_FIRST_MIXING, _LESS_MIXING = 0.1, 0.99
_SURE_AFTER = 5  # steps downhill
_LONGEST_MOVE = 0.2  # Å


@dataclass(eq=False)
class Descent(Rows):
    """Quasi-Newton steps with a trust radius.

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


@dataclass(eq=False)
class Fire(Rows):
    """FIRE (Bitzek et al., Phys. Rev. Lett. 2006, 97, 170201): slow, and hard to lead astray.

    It knows no curvature and no energy: what makes no progress otherwise, because the energy is
    noisy or does not fit the forces, goes on with it.

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
        steady = self.downhill > _SURE_AFTER
        step = torch.where(steady, self.step * _FASTER, self.step).clamp(max=_LONGEST_STEP)
        self.step = torch.where(uphill, self.step * _SLOWER, step)
        mixing = torch.where(steady, self.mixing * _LESS_MIXING, self.mixing)
        self.mixing = torch.where(uphill, _FIRST_MIXING, mixing)


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


def longest(steps: torch.Tensor) -> torch.Tensor:
    """Return the longest move (R,) of an atom in steps (R, D), in Å; above zero."""
    rows = steps.unflatten(1, (-1, 3)).norm(dim=2)
    by_strain = rows[:, -3:].amax(1) * STRAIN_LENGTH
    return torch.maximum(rows[:, :-3].amax(1), by_strain).clamp(min=1e-12)
