"""run.toml: what it may say, and one clear line for what it may not."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from gasearch.crystal.species import Species
from gasearch.errors import UsageError
from gasearch.plugins import nearest
from gasearch.run.dft_section import DftSection
from gasearch.run.execution_section import ExecutionSection
from gasearch.run.promotion_settings import PromoteSection
from gasearch.run.screening_settings import GROUPS, Group
from gasearch.store.location import checked_schema, checked_url

Number = Annotated[float, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[Whole, Field(ge=0)]
AtLeastOne = Annotated[Whole, Field(ge=1)]
Switch = Annotated[bool, Field(strict=True)]
Row = tuple[Whole, Whole, Whole]


_SHARES = (str, int, float)


class RunFileError(UsageError):
    """A run.toml that cannot be read, or says something that it may not."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SublatticeSection(_Section):
    """[[host.sublattice]]: sites of the structure file, and what they may hold."""

    kind: Literal["working_ion", "redox"]
    sites: tuple[str | Count, ...] | str
    species: tuple[str, ...]
    elements: Literal["fixed", "free"] = "fixed"
    fractions: dict[str, Share] = {}

    @field_validator("sites", mode="before")
    @classmethod
    def _sites_named(cls, sites: Any) -> Any:
        named = [sites] if isinstance(sites, str) else sites
        if not isinstance(named, list | tuple) or not all(_is_site(site) for site in named):
            raise ValueError('expected elements such as ["Fe", "Mn"], or indices from 0')
        return sites

    @field_validator("species")
    @classmethod
    def _known_species(cls, species: tuple[str, ...]) -> tuple[str, ...]:
        if len(species) < 2:
            raise ValueError('expected at least two species, such as ["Na+", "vacancy"]')
        for text in species:
            Species.parse(text)
        return species


class HostSection(_Section):
    """[host]: the crystal."""

    structure: str
    supercell: Row | tuple[Row, Row, Row]
    formula_unit: str | None = None
    symprec: Positive | None = None
    min_site_distance: Positive | None = None
    sublattice: tuple[SublatticeSection, ...] = ()
    framework: dict[str, str] = {}

    @field_validator("supercell", mode="before")
    @classmethod
    def _repeats_or_matrix(cls, supercell: Any) -> Any:
        rows = supercell if isinstance(supercell, list | tuple) else []
        is_matrix = len(rows) == 3 and all(_are_whole(row) for row in rows)
        if not (is_matrix or (_are_whole(supercell) and min(supercell) >= 1)):
            raise ValueError(
                "expected three repeats of at least 1, such as [1, 2, 1], or three rows of a 3x3 "
                "matrix of whole numbers"
            )
        return supercell

    @field_validator("sublattice", mode="before")
    @classmethod
    def _several_tables(cls, sublattice: Any) -> Any:
        if isinstance(sublattice, dict):
            raise ValueError("write each one as [[host.sublattice]], in double brackets")  # noqa: TRY004 -- pydantic's rule
        return sublattice

    @field_validator("framework")
    @classmethod
    def _known_framework(cls, framework: dict[str, str]) -> dict[str, str]:
        for text in framework.values():
            Species.parse(text)
        return framework


class PotentialSection(_Section):
    """[potential]: what computes energies."""

    name: str
    species: dict[str, str | int] = {}
    allow_charge_blind: Switch = False


class SearchSection(_Section):
    """[search]: what is proposed, and when to end."""

    seed: Annotated[Count, Field(lt=2**63)] = 1
    budget: AtLeastOne = 100
    x: Literal["all"] | tuple[Number | str, ...] = "all"
    in_flight: AtLeastOne | Literal["auto"] = "auto"
    reproducible: Switch = False
    stagnation: Count = 0
    initial: Count = 20
    population: AtLeastOne = 20
    max_draws: AtLeastOne = 50

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
        if x != "all" and not (is_list and all(type(share) in _SHARES for share in x)):
            raise ValueError('expected "all", or a list such as [0.5, "2/3"]')
        return x


class ScreeningSection(_Section):
    """[screening]: how few relaxations are made to do; see `gasearch.search.screening`."""

    surrogate: Switch = True
    pool: AtLeastOne = 200
    unscreened: Share = 0.1
    aging: Share = 0.3
    exact: Switch = True
    refine: Share = 0.1
    refine_sigmas: Positive = 2.0
    adaptive: Switch = True
    acquisition: str = "expected_improvement"
    features: list[Group] = list(GROUPS)
    pair_reach: Positive = 9.0
    triplet_reach: Positive = 6.0


class SeedsSection(_Section):
    """[seeds]: where the search starts, besides random decorations."""

    coulomb: Switch = True
    structures: list[str] = []
    runs: list[str] = []
    tilings_per_composition: AtLeastOne = 1


class RelaxSection(_Section):
    """[relax]: how a candidate is relaxed; energies in eV, lengths in Å."""

    fmax: Positive = 0.02
    smax: Positive = 0.002
    max_calls: AtLeastOne = 300
    long_calls: AtLeastOne = 150
    rattle: Annotated[NotNegative, Field(lt=0.5)] = 0.02
    tight_fmax: Positive = 0.01
    tight_window_per_fu: NotNegative = 0.005
    reader: Literal["own", "chgnet"] = "own"


class StoreSection(_Section):
    """[store]: where the population lives, and its backups."""

    url: str = ""
    schema_name: str = ""
    backup_every_s: Positive = 3600.0
    backups: Count = 3

    @field_validator("url")
    @classmethod
    def _no_password(cls, url: str) -> str:
        return checked_url(url) if url else ""

    @field_validator("schema_name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        return checked_schema(name) if name else ""


class RunSettings(_Section):
    """A whole run.toml."""

    host: HostSection
    potential: PotentialSection
    search: SearchSection = SearchSection()
    screening: ScreeningSection = ScreeningSection()
    seeds: SeedsSection = SeedsSection()
    operators: dict[str, dict[str, Any]] = {}
    relax: RelaxSection = RelaxSection()
    execution: ExecutionSection = ExecutionSection()
    store: StoreSection = StoreSection()
    promote: PromoteSection = PromoteSection()
    dft: DftSection = DftSection()

    @field_validator("store", mode="before")
    @classmethod
    def _url_alone(cls, store: Any) -> Any:
        return {"url": store} if isinstance(store, str) else store

    @field_validator("operators", mode="before")
    @classmethod
    def _weights_as_tables(cls, operators: Any) -> Any:
        if not isinstance(operators, dict):
            return operators
        return {
            name: value if isinstance(value, dict) else {"weight": value}
            for name, value in operators.items()
        }

    @field_validator("operators")
    @classmethod
    def _weights_not_negative(cls, operators: dict[str, dict[str, Any]]) -> Any:
        for name, arguments in operators.items():
            weight = arguments.get("weight", 1)
            is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not (is_number and 0 <= weight < float("inf")):
                raise ValueError(f"the weight of {name!r} is {weight!r}; it must be 0 or more")
        return operators

    def operational(self) -> dict[str, Any]:
        """Return the keys that may change on resume, flat: {"search.budget": 100, ...}."""
        return {key: value for key, value in self._flat() if key in self._operational_keys()}

    def defining(self) -> dict[str, Any]:
        """Return the keys that define the search and cannot change on resume, flat."""
        return {key: value for key, value in self._flat() if key not in self._operational_keys()}

    def _operational_keys(self) -> set[str]:
        keys = {"search.budget", "search.stagnation", "relax.tight_fmax"}
        keys |= {"relax.tight_window_per_fu"}
        keys |= {f"execution.{name}" for name in ExecutionSection.model_fields}
        keys |= {f"store.{name}" for name in StoreSection.model_fields}
        keys |= {f"promote.{name}" for name in PromoteSection.model_fields}
        keys |= {f"dft.{name}" for name in DftSection.model_fields}
        return keys if self.search.reproducible else keys | {"search.in_flight"}

    def _flat(self) -> Iterator[tuple[str, Any]]:
        document = self.model_dump(mode="json")
        operators = document.pop("operators")
        for section, values in document.items():
            yield from ((f"{section}.{key}", value) for key, value in values.items())
        yield "operators", [[name, arguments] for name, arguments in operators.items()]


def default_of(key: str) -> Any:
    """Return what a key such as "relax.fmax" is where a run.toml does not name it."""
    section, _, name = key.partition(".")
    field = RunSettings.model_fields[section].annotation.model_fields.get(name)  # type: ignore[union-attr]
    return None if field is None else field.get_default()


def read_run_file(path: Path) -> RunSettings:
    """Return the settings of a run.toml; every error is one line that names the key."""
    return run_settings(read_document(path), str(path))


def read_document(path: Path) -> dict[str, Any]:
    """Return what a run.toml says, whether or not its keys are known."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise RunFileError(
            f"there is no {path}; write one with: gasearch init {shlex.quote(str(path.parent))}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path} is not TOML: {error}.") from error
    except OSError as error:
        raise RunFileError(f"{path} cannot be read: {error.strerror}.") from error


def run_settings(document: Mapping[str, Any], source: str) -> RunSettings:
    """Return validated settings; `source` is named in errors."""
    try:
        return RunSettings.model_validate(document)
    except ValidationError as error:
        raise RunFileError(f"{source}: {_one_line(error)}") from error


def _one_line(error: ValidationError) -> str:
    """Return the first error that tells most: a misspelt key explains why another is missing."""
    errors = error.errors(include_url=False)
    unknown = [found for found in errors if found["type"] == "extra_forbidden"]
    return _in_words((unknown or errors)[0])


def _in_words(error: ErrorDetails) -> str:
    place, found = error["loc"], error["input"]
    key = _key(place)
    if error["type"] == "extra_forbidden":
        known = _fields_at(place[:-1])
        return (
            f"unknown key {key!r}{nearest(str(place[-1]), known)}; known here: {', '.join(known)}."
        )
    if error["type"] == "missing":
        return f"{key!r} is missing."
    is_secret = place[:2] in (("store",), ("store", "url"))  # there may be a password in it
    shown = "" if is_secret or isinstance(found, dict) else f" = {found!r}"
    return f"{key}{shown}: {_expectation(error['msg'])}."


def _key(place: Sequence[str | int]) -> str:
    """Return a place as TOML has it, such as host.sublattice[0].sites."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in place]
    return "".join(parts).removeprefix(".")


_WORDS = {
    "Value error, ": "",
    "Input should": "it should",
    "a valid dictionary": "a table",
    "a valid tuple": "a list",
    "a valid integer": "a whole number",
    "a valid string": "text in quotes",
    "a valid number": "a number",
    "a valid boolean": "true or false",
}


def _expectation(message: str) -> str:
    if "or instance of" in message:
        return "it should be a table"
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return message.rstrip(".")


def _fields_at(place: Sequence[str | int]) -> list[str]:
    model: Any = RunSettings
    for part in place:
        if part == "sublattice":
            model = SublatticeSection
        elif isinstance(part, str):
            model = model.model_fields[part].annotation
    return list(model.model_fields)


def _is_site(site: object) -> bool:
    is_index = isinstance(site, int) and not isinstance(site, bool) and site >= 0
    return is_index or isinstance(site, str)


def _are_whole(values: Any) -> bool:
    """Return whether values are three whole numbers."""
    is_row = isinstance(values, list | tuple) and len(values) == 3
    return is_row and all(isinstance(v, int) and not isinstance(v, bool) for v in values)
