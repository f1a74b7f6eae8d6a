"""run.toml: what it may say, and one clear line for what it may not."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError, field_validator
from pydantic_core import ErrorDetails, to_jsonable_python

from gasearch.plugins import nearest
from gasearch.relax.settings import RelaxSection
from gasearch.run.dft_section import DftSection
from gasearch.run.execution_section import ExecutionSection
from gasearch.run.host import HostSection
from gasearch.run.sections import (
    PotentialSection,
    PromoteSection,
    RunFileError,
    ScreeningSection,
    SearchSection,
    SeedsSection,
    StoreSection,
)
from gasearch.settings import IF_REPRODUCIBLE, Key, Section, key, keys_of, section_in

Found = TypeVar("Found", bound=Section)


class RunSettings(Section):
    """A whole run.toml."""

    host: HostSection
    potential: PotentialSection
    search: SearchSection = SearchSection()
    seeds: SeedsSection = SeedsSection()
    screening: ScreeningSection = ScreeningSection()
    operators: dict[str, dict[str, Any]] = key(
        {}, "without this section: all registered, at their weights"
    )
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
        return dict(self._flat(is_fixed=False))

    def defining(self) -> dict[str, Any]:
        """Return the keys that define the search and cannot change on resume, flat."""
        defining = dict(self._flat(is_fixed=True))
        operators = [[name, arguments] for name, arguments in self.operators.items()]
        return defining | {"operators": operators}

    def _flat(self, *, is_fixed: bool) -> Iterator[tuple[str, Any]]:
        for name, values in self.model_dump(mode="json", exclude={"operators"}).items():
            for field_name in values:
                fixed = getattr(self, name).fixed_of(field_name)
                if fixed == IF_REPRODUCIBLE:
                    fixed = self.search.reproducible
                if fixed == is_fixed:
                    yield f"{name}.{field_name}", values[field_name]


def settings_table(root: type[Section] = RunSettings) -> list[Key]:
    """Return every key of a file such as run.toml in the order of its sections."""
    return [
        row
        for name, field in root.model_fields.items()
        if (section := section_in(field.annotation)) is not None
        for row in keys_of(section, name)
    ]


def default_of(flat: str) -> Any:
    """Return what a key such as "relax.fmax" is, in JSON, where a run.toml does not name it."""
    section_name, _, name = flat.partition(".")
    found = [row for row in settings_table() if (row.section, row.name) == (section_name, name)]
    return to_jsonable_python(found[0].default) if found else None


def read_run_file(path: Path) -> RunSettings:
    """Return the settings of a run.toml; every error is one line that names the key."""
    return run_settings(read_document(path), str(path))


def read_document(path: Path, option: str = "") -> dict[str, Any]:
    """Return what a run.toml says, whether or not its keys are known.

    Parameters
    ----------
    option
        Of `gasearch init`, where another file is meant than run.toml.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        how = f"gasearch init {shlex.quote(str(path.parent))}{option}"
        raise RunFileError(f"there is no {path}; write one with: {how}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path} is not TOML: {error}.") from error
    except OSError as error:
        raise RunFileError(f"{path} cannot be read: {error.strerror}.") from error


def run_settings(document: Mapping[str, Any], source: str) -> RunSettings:
    """Return validated settings; `source` is named in errors."""
    return validated(document, source, RunSettings)


def validated(document: Mapping[str, Any], source: str, root: type[Found]) -> Found:
    """Return what a file says as its settings object, such as `RunSettings`; errors in one line."""
    try:
        return root.model_validate(document)
    except ValidationError as error:
        raise RunFileError(f"{source}: {_one_line(error, root)}") from error


def _one_line(error: ValidationError, root: type[Section]) -> str:
    """Return the first error that tells most: a misspelt key explains why another is missing."""
    errors = error.errors(include_url=False)
    unknown = [found for found in errors if found["type"] == "extra_forbidden"]
    return _in_words((unknown or errors)[0], root)


def _in_words(error: ErrorDetails, root: type[Section]) -> str:
    place, found = error["loc"], error["input"]
    key = _key(place)
    if error["type"] == "extra_forbidden":
        known = _fields_at(place[:-1], root)
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


def _fields_at(place: Sequence[str | int], section: type[Section]) -> list[str]:
    for part in place:
        if isinstance(part, str):
            section = section_in(section.model_fields[part].annotation) or section
    return list(section.model_fields)
