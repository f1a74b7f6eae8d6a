"""The commented run.toml that `gasearch init` writes, made from the sections themselves."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from gasearch.crystal.declaration import HostDeclaration, SublatticeDeclaration
from gasearch.crystal.io.builtin import BUILTIN_HOSTS
from gasearch.run.config import RunSettings
from gasearch.run.host import HostSection, SublatticeSection
from gasearch.settings import Key, Section, as_toml, keys_of, section_in

_COLUMN = 30  # of comments
_WIDTH = 100
_HEAD = """\
# A search for ground states, by gasearch. Start it, or resume it, with: gasearch run FOLDER
# Keys marked (fixed) define the search and cannot change once it was started. Lines that begin
# with "# " and a key show what holds without them.
"""
_OPERATOR_EXAMPLES = """\
# na_vacancy_swap = 2
# "./my_operators.py:MySwap" = { weight = 1, n_swaps = 2 }
# "ase_ga.slab_operators:RandomSlabPermutation" = 1
"""


def run_file_text(declaration: HostDeclaration, written: Mapping[str, Any]) -> str:
    """Return a run.toml for a host; one from a file comes with its sublattices written out.

    Parameters
    ----------
    written
        Values that stand there, such as {"host.structure": "a.cif", "search.budget": 100}; all
        other keys are comments with their defaults.
    """
    found = [_HEAD]
    for name, field in RunSettings.model_fields.items():
        section = section_in(field.annotation)
        if name == "host":
            found.append(_host(declaration, written))
        elif section is None:
            found.append(_headed(f"# [{name}]", True, field.description) + _OPERATOR_EXAMPLES)
        else:
            found += _tables(section, name, written)
    return "\n".join(found)


def _tables(section: type[Section], name: str, written: Mapping[str, Any]) -> Iterator[str]:
    """Yield the text of a section, then that of each section inside it."""
    rows = list(keys_of(section, name))
    own = [row for row in rows if row.section == name]
    yield _table(name, section, [(row, written.get(_flat(row)), row.default) for row in own])
    for field_name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        if inner is not None:
            yield from _tables(inner, f"{name}.{field_name}", written)


def _flat(row: Key) -> str:
    return f"{row.section}.{row.name}"


def _table(heading: str, section: type[Section], values: list[tuple[Key, Any, Any]]) -> str:
    """Return one section: keys, each with what is written and what holds without it."""
    is_fixed = all(row.fixed is True for row, _, _ in values)
    summary = inspect.cleandoc(section.__doc__ or "").partition("\n")[0].partition(": ")[2]
    text = _headed(f"[{heading}]", is_fixed, summary.rstrip("."))
    return text + "".join(
        _line(row, written, default, is_marked=not is_fixed) for row, written, default in values
    )


def _headed(heading: str, is_fixed: bool, summary: str | None) -> str:
    return _commented(heading, f"{'(fixed) ' if is_fixed else ''}{summary or ''}")


def _line(row: Key, written: Any, default: Any, *, is_marked: bool = False) -> str:
    """Return the line of one key: what is written, or its default as a comment."""
    fixed = "(fixed)" if row.fixed is True else f"(fixed {row.fixed})" if row.fixed else ""
    unit = "" if row.name.endswith(f"_{row.unit}") else row.unit
    explained = "; ".join(filter(None, [unit, row.sentence]))
    value = f"# {row.name} = {as_toml(default)}"
    if written is not None:
        value = f"{row.name} = {as_toml(written)}"
    return _commented(value, f"{fixed if is_marked else ''} {explained}".strip())


def _commented(value: str, comment: str) -> str:
    """Put a comment behind a value in its column, and below it what does not fit."""
    if not comment:
        return f"{value}\n"
    first, below = f"{value:<{_COLUMN}}  # ", f"#{' ' * (_COLUMN + 3)}"
    is_below = len(value) > _COLUMN and len(first) + len(comment) > _WIDTH
    lines = textwrap.wrap(
        comment,
        _WIDTH,
        initial_indent=below if is_below else first,
        subsequent_indent=below,
        break_on_hyphens=False,
    )
    return "\n".join([*([value] if is_below else []), *lines, ""])


def _host(declaration: HostDeclaration, written: Mapping[str, Any]) -> str:
    """Return [host]; of one from a file with what was guessed of it."""
    *own, framework = (row for row in keys_of(HostSection, "host") if row.section == "host")
    is_from_file = written["host.structure"] not in BUILTIN_HOSTS
    guessed = ("formula_unit", "symprec", "charges") if is_from_file else ()
    values: list[tuple[Key, Any, Any]] = []
    for row in own:
        declared = getattr(declaration, row.name, None)
        given = declared if row.name in guessed else written.get(_flat(row))
        values.append((row, given, declared))
    text = _table("host", HostSection, values)
    if not is_from_file:
        return text
    tables = "\n".join(map(_sublattice, declaration.sublattices))
    return (
        f"{text}\n# A first guess: check the species, and which sites hold them.\n{tables}\n"
        + _commented("[host.framework]", framework.sentence)
        + "".join(
            f"{element} = {as_toml(str(species))}\n"
            for element, species in declaration.framework.items()
        )
    )


def _sublattice(declared: SublatticeDeclaration) -> str:
    given: dict[str, Any] = {
        "kind": declared.kind,
        "sites": declared.sites,
        "species": [str(species) for species in declared.species],
    }
    if declared.is_free:
        given |= {"elements": declared.elements, "fractions": declared.fractions}
    if declared.moves:
        given["moves"] = declared.moves
    rows = keys_of(SublatticeSection, "host.sublattice")
    lines = (_line(row, given.get(row.name), row.default) for row in rows)
    return "[[host.sublattice]]\n" + "".join(lines)
