"""Sections of run.toml: potential, search, seeds, screening, store and promotion.

[host] is in `host`, [relax] in `gasearch.relax.settings`, [execution] and [dft] beside this module.
The command line reads defaults here: nothing heavy is imported.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from gasearch.errors import UsageError
from gasearch.settings import (
    IF_REPRODUCIBLE,
    REQUIRED,
    AtLeastOne,
    Count,
    NotNegative,
    Number,
    Positive,
    Section,
    Share,
    Switch,
    key,
)

Group = Literal["points", "pairs", "triplets", "surroundings", "coulomb"]
GROUPS: tuple[Group, ...] = get_args(Group)


class RunFileError(UsageError):
    """A run.toml that cannot be read, or says something that it may not."""


class PotentialSection(Section):
    """[potential]: what computes energies."""

    fixed = True

    name: str = key(REQUIRED, 'a registered name, "module:factory" or "./file.py:factory"')
    species: dict[str, str | int] = key(
        {}, 'of a foreign model, which slot holds what: { "Fe3+" = "Ga" }'
    )
    hold: Literal["off", "auto", "moments", "bonds"] = key(
        "off",
        "keeps redox sites in the states of their labels in a potential that knows elements only: "
        "by its moments or by bonds, auto: by what tells the states apart. Orders at one x are "
        "ranked well; energies across x stay the potential's own",
    )
    hold_stiffness: NotNegative = key(
        0.0,
        "of the hold, in eV per squared Bohr magneton or valence unit; 0: 10 and 3; a softer one "
        "loses orders, a stiffer one takes a few more calls",
    )
    allow_charge_blind: Switch = key(
        False, "else a potential that cannot tell Fe2+ from Fe3+ is refused"
    )


class SearchSection(Section):
    """[search]: what is proposed, and when the search ends."""

    budget: AtLeastOne = key(100, "candidates to relax; may be raised later")
    seed: Annotated[Count, Field(lt=2**63)] = key(1, "of all random numbers", fixed=True)
    x: Literal["all"] | tuple[Number | str, ...] = key(
        "all",
        'filled shares to search, or a list such as [0.5, "2/3"]; the two ends are always searched',
        fixed=True,
    )
    in_flight: AtLeastOne | Literal["auto"] = key(
        "auto",
        'candidates relaxed at once; "auto": one per worker; on a GPU as many as keep it busy, '
        "which is 8192 atoms, but 16 at least; when reproducible, as many as on the machine that "
        "started the search",
        fixed=IF_REPRODUCIBLE,
    )
    reproducible: Switch = key(
        False, "true, as in new runs: the result does not depend on timing", fixed=True
    )
    stagnation: Count = key(0, "end after so many results without a better one; 0: never")
    initial: Count = key(20, "random candidates, before operators make new ones", fixed=True)
    population: AtLeastOne = key(20, "possible parents per composition", fixed=True)
    max_draws: AtLeastOne = key(
        50, "draws of operators before a random candidate is taken", fixed=True
    )

    @field_validator("in_flight", mode="before")
    @classmethod
    def _number_or_auto(cls, in_flight: Any) -> Any:
        if in_flight != "auto" and not (type(in_flight) is int and in_flight >= 1):
            raise ValueError('expected "auto", or a whole number of at least 1')
        return in_flight

    @field_validator("x", mode="before")
    @classmethod
    def _all_or_some(cls, x: Any) -> Any:
        is_list = isinstance(x, list | tuple) and x
        if x != "all" and not (is_list and all(type(share) in (str, int, float) for share in x)):
            raise ValueError('expected "all", or a list such as [0.5, "2/3"]')
        return x


class SeedsSection(Section):
    """[seeds]: where the search starts, besides random candidates."""

    fixed = True

    coulomb: Switch = key(True, "half of the initial candidates are those of lowest Coulomb energy")
    structures: list[str] = key([], 'files such as "boucher.cif", mapped onto the host\'s sites')
    runs: list[str] = key([], 'run folders such as "../small": their ground states, repeated')
    tilings_per_composition: AtLeastOne = key(
        1, "how many of the lowest of each run, at each composition"
    )


class ScreeningSection(Section):
    """[screening]: surrogate-based choice of candidates."""

    fixed = True

    surrogate: Switch = key(True, "a model of the run's own results ranks what is relaxed next")
    pool: AtLeastOne = key(200, "children ranked for each, where a composition cannot be listed")
    unscreened: Share = key(0.1, "share of candidates that are taken as the operators make them")
    aging: Share = key(0.3, "share of candidates for the composition that waited longest")
    exact: Switch = key(True, "compositions that the budget covers are relaxed to the last one")
    refine: Share = key(0.1, "last share of the budget: neighbours of hull members come first")
    refine_sigmas: Positive = key(
        2.0, "standard deviations above its hull member at which a neighbour is left out"
    )
    adaptive: Switch = key(True, "operators whose children improve niches are drawn more often")
    acquisition: str = key(
        "expected_improvement", 'what scores its predictions; or your own, "./my_file.py:name"'
    )
    features: tuple[Group, ...] = key(GROUPS, "what the model sees of a decoration")
    pair_reach: Positive = key(9.0, "longest distance of a pair", "Å")
    triplet_reach: Positive = key(
        6.0, "longest edge of a triplet; shorter where they are too many", "Å"
    )


class StoreSection(Section):
    """[store]: where the population is kept, and its backups."""

    url: str = key(
        "",
        '"": search.db in this folder; or a server, whose password is in PGPASSWORD or ~/.pgpass: '
        '"postgresql+psycopg://user@host/database"',
    )
    schema_name: str = key("", 'of the run on the server; "": a name of its own')
    backup_every_s: Positive = key(3600.0, "least time between two copies in backups/", "s")
    backups: Count = key(3, "copies that are kept; 0: none")

    @field_validator("url")
    @classmethod
    def _no_password(cls, url: str) -> str:
        from gasearch.store.location import checked_url

        return checked_url(url) if url else ""

    @field_validator("schema_name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        from gasearch.store.location import checked_schema

        return checked_schema(name) if name else ""


class PromoteSection(Section):
    """[promote]: which candidates deserve DFT: gasearch promote.

    The defaults are the rule of Petersen et al. 2026 (arXiv 2603.26471).
    """

    lowest: Count = key(3, "of each composition")
    highest: Count = key(3, "of each composition")
    of_interest: list[float | str] = key(
        ["2/3"], "compositions with more of the lowest, where the cell holds them"
    )
    more_of_interest: Count = key(7, "how many more there")
    reference: list[str] = key([], "structure files, such as that of an experimental phase")
    above_hull_per_fu: NotNegative = key(
        0.0, "all that are as near to the hull; 0: this rule is off", "eV/f.u."
    )
    nearest: Count = key(0, "so many of those nearest to the hull; 0: this rule is off")
    diversity: NotNegative = key(
        0.0,
        "skip what is nearer to a promoted one of its composition than this, in cluster "
        "correlations, each in units of its spread over all decorations; 0: none is skipped",
    )
    most: Count = key(0, "promotions in all; 0: as many as the rules say")

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
