"""[promote] of run.toml: which candidates deserve DFT. All of it may change at any time."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

Count = Annotated[int, Field(strict=True, ge=0)]
NotNegative = Annotated[float, Field(strict=True, ge=0)]


class PromoteSection(BaseModel):
    """[promote]: the defaults are the rule of Petersen et al. 2026 (arXiv 2603.26471).

    Parameters
    ----------
    lowest, highest
        Of each composition.
    of_interest
        Compositions that get more of the lowest, where the cell holds them.
    more_of_interest
        How many more there.
    reference
        Structure files with oxidation states, looked up from the run folder.
    above_hull_per_fu
        All that lie at most so far above the hull, in eV/f.u.; 0: this rule is off.
    nearest
        How many of those nearest to the hull, whatever their composition; 0: this rule is off.
    diversity
        A candidate is skipped where its cluster correlations are nearer than this to those of one
        at the same composition that is promoted already; in units of their spread over all
        decorations. 0: none is skipped.
    most
        Promotions of the run in all; 0: as many as the rules say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    lowest: Count = 3
    highest: Count = 3
    of_interest: list[float | str] = ["2/3"]
    more_of_interest: Count = 7
    reference: list[str] = []
    above_hull_per_fu: NotNegative = 0.0
    nearest: Count = 0
    diversity: NotNegative = 0.0
    most: Count = 0

    @field_validator("of_interest", mode="before")
    @classmethod
    def _shares(cls, of_interest: Any) -> Any:
        if not isinstance(of_interest, list | tuple) or not all(map(_is_share, of_interest)):
            raise ValueError('expected a list of filled shares, such as [0.75, "2/3"]')
        return of_interest


def _is_share(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        return 0 <= Fraction(value) <= 1
    except (ValueError, ZeroDivisionError, OverflowError):
        return False
