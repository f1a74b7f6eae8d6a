"""The base of all sections of run.toml: each key states once what it is and what holds without it.

A section is the settings object that the code uses. What `gasearch init` writes, which keys a
resumed run may change, help texts and documentation follow from the same declarations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Number = Annotated[float, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[Whole, Field(ge=0)]
AtLeastOne = Annotated[Whole, Field(ge=1)]
Switch = Annotated[bool, Field(strict=True)]

IF_REPRODUCIBLE = "if reproducible"
"""Of a key that defines the search only where `search.reproducible` is true."""
Fixed = bool | str
REQUIRED: Any = ...


class Section(BaseModel):
    """A section of run.toml; values are checked, and cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    fixed: ClassVar[bool] = False
    """Whether its keys define the search, unless a key says otherwise."""

    @classmethod
    def fixed_of(cls, name: str) -> Fixed:
        """Return whether a key defines the search, so that it cannot change on resume."""
        return cast(Fixed, _declared(cls.model_fields[name]).get("fixed", cls.fixed))


def key(default: Any, sentence: str, unit: str = "", *, fixed: Fixed | None = None) -> Any:
    """Declare a key of a section.

    Parameters
    ----------
    default
        What holds where run.toml does not name it; `REQUIRED` where it must.
    sentence
        What it means, without a full stop.
    unit
        Of its value, or "".
    fixed
        Whether it defines the search; None: as its section says.
    """
    declared: dict[str, Any] = {"unit": unit} if fixed is None else {"unit": unit, "fixed": fixed}
    return Field(default, description=sentence, json_schema_extra=declared)


@dataclass(frozen=True)
class Key:
    """What is declared of one key, as documentation shows it.

    Parameters
    ----------
    section
        Such as "relax" or "dft.gpaw".
    type
        In words, such as "number > 0".
    default
        None where there is none.
    """

    section: str
    name: str
    type: str
    default: Any
    unit: str
    fixed: Fixed
    sentence: str


def keys_of(section: type[Section], name: str) -> Iterator[Key]:
    """Yield the keys of a section, then those of the sections inside it."""
    types = section.model_json_schema()["properties"]
    inside: list[tuple[type[Section], str]] = []
    for field_name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        if inner is not None:
            inside.append((inner, f"{name}.{field_name}"))
        else:
            yield Key(
                name,
                field_name,
                _in_words(types[field_name]),
                None if field.is_required() else field.get_default(call_default_factory=True),
                _declared(field).get("unit", ""),
                section.fixed_of(field_name),
                field.description or "",
            )
    for inner, inner_name in inside:
        yield from keys_of(inner, inner_name)


def help_of(section: type[Section], name: str) -> str:
    """Return what a key means as the help text of an option that has its value."""
    sentence = section.model_fields[name].description or ""
    return f"{sentence[:1].upper()}{sentence[1:]}."


def section_in(annotation: Any) -> type[Section] | None:
    """Return the section that a field holds, alone or several times."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = (section_in(argument) for argument in get_args(annotation))
    return next((one for one in found if one is not None), None)


def _declared(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


_TYPES = {
    "number": "number",
    "integer": "whole number",
    "string": "text",
    "boolean": "true or false",
    "object": "table",
}
_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


def _in_words(schema: Mapping[str, Any]) -> str:
    """Return a type of JSON schema in words."""
    if "anyOf" in schema:
        words = (_in_words(one) for one in schema["anyOf"] if one.get("type") != "null")
        return " or ".join(dict.fromkeys(words))
    if "const" in schema or "enum" in schema:
        return " or ".join(json.dumps(one) for one in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {len(schema['prefixItems'])}" if "prefixItems" in schema else "list"
    bounds = [f"{sign} {schema[name]}" for name, sign in _BOUNDS.items() if name in schema]
    return " ".join([_TYPES.get(schema.get("type", ""), "value"), *bounds])


def as_toml(value: Any) -> str:
    """Return a value as TOML writes it, tables inline."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return re.sub(r"e([+-])0*", r"e\1", repr(value)).replace("e+", "e")
    if isinstance(value, Mapping):
        pairs = [f"{bare_key(name)} = {as_toml(inner)}" for name, inner in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, Sequence):
        return f"[{', '.join(as_toml(inner) for inner in value)}]"
    return str(value)


def bare_key(name: str) -> str:
    """Return a key as TOML writes it, in quotes only where it must be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else as_toml(name)
