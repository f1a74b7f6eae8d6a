"""run.toml: what it may say, and one clear line for what it may not."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gasearch.chemistry import Species
from gasearch.errors import UsageError
from gasearch.plugins import nearest

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]


class RunFileError(UsageError):
    """A run.toml that cannot be read, or says something that it may not."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SublatticeSection(_Section):
    """[[host.sublattice]]: sites of the structure file, and what they may hold."""

    kind: Literal["working_ion", "redox"]
    sites: tuple[str | int, ...] | str
    species: Annotated[tuple[str, ...], Field(min_length=2)]
    elements: Literal["fixed", "free"] = "fixed"
    fractions: dict[str, Share] = {}

    @field_validator("species")
    @classmethod
    def _known_species(cls, species: tuple[str, ...]) -> tuple[str, ...]:
        for text in species:
            Species.parse(text)
        return species


class HostSection(_Section):
    """[host]: the crystal."""

    structure: str
    supercell: (
        tuple[AtLeastOne, AtLeastOne, AtLeastOne]
        | tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]
    )
    formula_unit: str | None = None
    symprec: Positive | None = None
    min_site_distance: Positive | None = None
    sublattice: tuple[SublatticeSection, ...] = ()
    framework: dict[str, str] = {}

    @field_validator("framework")
    @classmethod
    def _known_framework(cls, framework: dict[str, str]) -> dict[str, str]:
        for text in framework.values():
            Species.parse(text)
        return framework


class PotentialSection(_Section):
    """[potential]: what computes energies."""

    name: str
    allow_charge_blind: bool = False


class SearchSection(_Section):
    """[search]: what is proposed, and when to end."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    budget: AtLeastOne = 100
    x: Literal["all"] | tuple[float | str, ...] = "all"
    in_flight: AtLeastOne = 1
    reproducible: bool = False
    stagnation: Count = 0
    initial: Count = 20
    population: AtLeastOne = 20
    max_draws: AtLeastOne = 50


class RelaxSection(_Section):
    """[relax]: how a candidate is relaxed; energies in eV, lengths in Å."""

    fmax: Positive = 0.02
    smax: Positive = 0.002
    max_calls: AtLeastOne = 300
    long_calls: AtLeastOne = 150
    rattle: Annotated[float, Field(ge=0, lt=0.5)] = 0.02
    tight_fmax: Positive = 0.01
    tight_window_per_fu: Annotated[float, Field(ge=0)] = 0.005


class ExecutionSection(_Section):
    """[execution]: where relaxations run."""

    workers: Count = 1
    wall_limit_s: Positive = 3600.0
    max_crashes: AtLeastOne = 3


class StoreSection(_Section):
    """[store]: backups of the population database."""

    backup_every_s: Positive = 3600.0
    backups: Count = 3


class RunSettings(_Section):
    """A whole run.toml."""

    host: HostSection
    potential: PotentialSection
    search: SearchSection = SearchSection()
    operators: dict[str, dict[str, Any]] = {}
    relax: RelaxSection = RelaxSection()
    execution: ExecutionSection = ExecutionSection()
    store: StoreSection = StoreSection()

    @field_validator("operators", mode="before")
    @classmethod
    def _weights_as_tables(cls, operators: Any) -> Any:
        if not isinstance(operators, dict):
            return operators
        return {
            name: {"weight": value} if isinstance(value, int | float) else value
            for name, value in operators.items()
        }

    @field_validator("operators")
    @classmethod
    def _weights_not_negative(cls, operators: dict[str, dict[str, Any]]) -> Any:
        for name, arguments in operators.items():
            weight = arguments.get("weight", 1)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or weight < 0:
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
        return keys if self.search.reproducible else keys | {"search.in_flight"}

    def _flat(self) -> Iterator[tuple[str, Any]]:
        document = self.model_dump(mode="json")
        operators = document.pop("operators")
        for section, values in document.items():
            yield from ((f"{section}.{key}", value) for key, value in values.items())
        yield "operators", [[name, arguments] for name, arguments in operators.items()]


def read_run_file(path: Path) -> RunSettings:
    """Return the settings of a run.toml; every error is one line that names the key."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFileError(
            f"there is no {path}: `gasearch init {path.parent}` writes one."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path} is not TOML: {error}.") from error
    except OSError as error:
        raise RunFileError(f"{path} cannot be read: {error.strerror}.") from error
    return run_settings(document, str(path))


def run_settings(document: Mapping[str, Any], source: str) -> RunSettings:
    """Return validated settings; `source` is named in errors."""
    try:
        return RunSettings.model_validate(document)
    except ValidationError as error:
        raise RunFileError(f"{source}: {_one_line(error)}") from error


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    key = ".".join(
        part for part in place if not part.startswith(("tuple[", "literal[", "function"))
    )
    if first["type"] == "extra_forbidden":
        known = _fields_at(place[:-1])
        return f"unknown key {key!r}{nearest(place[-1], known)}; known here: {', '.join(known)}."
    if first["type"] == "missing":
        return f"{key!r} is missing."
    message = first["msg"].removeprefix("Value error, ")
    found = first.get("input")
    shown = "" if isinstance(found, dict) else f", found {found!r}"
    return f"{key} = {found!r}: {message}." if shown else f"{key}: {message}."


def _fields_at(place: list[str]) -> list[str]:
    model: Any = RunSettings
    for part in place:
        if part.isdigit():
            continue
        if part == "sublattice":
            model = SublatticeSection
            continue
        model = model.model_fields[part].annotation
    return list(model.model_fields)
