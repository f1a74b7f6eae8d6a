"""How children are screened before one of them is relaxed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

Group = Literal["points", "pairs", "triplets", "surroundings", "coulomb"]
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True)
class FeatureSettings:
    """What the features of a decoration reach.

    Parameters
    ----------
    pair_reach
        Longest distance of a pair, in Å.
    triplet_reach
        Longest edge of a triplet, in Å; shortened where a large cell would have too many.
    groups
        Which kinds of features there are.
    """

    pair_reach: float = 9.0
    triplet_reach: float = 6.0
    groups: tuple[Group, ...] = GROUPS


@dataclass(frozen=True)
class ScreeningSettings:
    """What [screening] of a run.toml says.

    Parameters
    ----------
    surrogate
        Whether a model that learns from the run's own results ranks what could be proposed.
    pool
        Children drawn for each candidate where a composition cannot be listed as a whole.
    unscreened
        Share of children that are taken as the operators make them, whatever the model says.
    aging
        Share of candidates that go to the composition which waited longest.
    exact
        Whether compositions that the rest of the budget covers are relaxed to the last decoration.
    refine
        Last share of the budget that goes first to the neighbours of hull members.
    refine_sigmas
        Deviations by which the model must put a neighbour above its hull member to leave it out.
    adaptive
        Whether operators that improve niches are drawn more often.
    acquisition
        The function that scores candidates by their predictions: a name, or `./file.py:name`.
    hull_aware
        Whether the energies make a hull, so that compositions far above it get less.
    features
        What the model sees of a decoration.
    """

    surrogate: bool = True
    pool: int = 200
    unscreened: float = 0.1
    aging: float = 0.3
    exact: bool = True
    refine: float = 0.1
    refine_sigmas: float = 2.0
    adaptive: bool = True
    acquisition: str = "expected_improvement"
    hull_aware: bool = True
    features: FeatureSettings = field(default_factory=FeatureSettings)


NO_SCREENING = ScreeningSettings(surrogate=False, exact=False, refine=0.0, adaptive=False)
"""The plain search: operators and rank fitness alone."""
