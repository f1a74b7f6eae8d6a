"""The commented run.toml that `gasearch init` writes, made from the sections themselves."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gasearch.crystal.declaration import HostDeclaration, SublatticeDeclaration
from gasearch.crystal.io.builtin import BUILTIN_HOSTS
from gasearch.crystal.io.guess.valences import usual_species
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
_UNFINISHED = "# The sublattices could not be guessed:"
_OPERATOR_EXAMPLES = """\
# na_vacancy_swap = 2
# "./my_operators.py:MySwap" = { weight = 1, n_swaps = 2 }
# "ase_ga.slab_operators:RandomSlabPermutation" = 1
"""


def run_file_text(
    declaration: HostDeclaration, written: Mapping[str, Any], remarks: Sequence[str] = ()
) -> str:
    """Return a run.toml for a host; one from a file comes with its sublattices written out.

    Parameters
    ----------
    written
        Values that stand there, such as {"host.structure": "a.cif", "search.budget": 100}; all
        other keys are comments with their defaults.
    remarks
        On how the structure file was read, for the user to check.
    """
    return _run_file(_host(declaration, written, remarks), written)


def unfinished_run_file(
    written: Mapping[str, Any], elements: Sequence[str], remarks: Sequence[str]
) -> str:
    """Return a run.toml whose sublattices are to be completed.

    Parameters
    ----------
    elements
        Of the structure.
    remarks
        Why there is no guess, and how the file was read.
    """
    own = [row for row in keys_of(HostSection, "host") if _flat(row) in written]
    text = _table("host", HostSection, [(row, written[_flat(row)], row.default) for row in own])
    text += f"\n{_UNFINISHED}\n" + "".join(map(_remark, remarks))
    text += "# Take away the # of the lines below, and correct them.\n"
    usual = {element: [str(s) for s in usual_species(element)] for element in elements}
    redox = next((e for e in elements if len(usual[e]) > 1), elements[-1])
    moving = next((e for e in elements if e != redox), elements[0])
    for kind, element, species in (
        ("working_ion", moving, [*usual[moving][:1], "vacancy"]), ("redox", redox, usual[redox])
    ):  # fmt: skip
        given = {"kind": kind, "sites": [element], "species": species}
        rows = (row for row in keys_of(SublatticeSection, "host.sublattice") if row.name in given)
        lines = (_line(row, given[row.name], row.default) for row in rows)
        text += "\n# [[host.sublattice]]\n" + "".join(map(_as_comment, lines))
    text += "\n# [host.framework]\n"
    rest = [element for element in elements if element not in (redox, moving)]
    text += "".join(f"# {element} = {as_toml(usual[element][-1])}\n" for element in rest)
    return _run_file(text, written)


def is_unfinished(text: str) -> bool:
    """Whether a run.toml still waits for its sublattices."""
    return _UNFINISHED in text and re.search(r"(?m)^\[\[host\.sublattice", text) is None


def _as_comment(text: str) -> str:
    return "".join(f"# {line}" for line in text.splitlines(True))


def _run_file(host: str, written: Mapping[str, Any]) -> str:
    """Return a run.toml with the text of [host]."""
    found = [_HEAD]
    for name, field in RunSettings.model_fields.items():
        section = section_in(field.annotation)
        if name == "host":
            found.append(host)
        elif section is None:
            found.append(_headed(f"# [{name}]", True, field.description) + _OPERATOR_EXAMPLES)
        else:
            found += section_tables(section, name, written)
    return "\n".join(found)


def section_tables(section: type[Section], name: str, written: Mapping[str, Any]) -> Iterator[str]:
    """Yield the text of a section, then that of each section inside it."""
    rows = list(keys_of(section, name))
    own = [row for row in rows if row.section == name]
    yield _table(name, section, [(row, written.get(_flat(row)), row.default) for row in own])
    for field_name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        if inner is not None:
            yield from section_tables(inner, f"{name}.{field_name}", written)


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


def _host(declaration: HostDeclaration, written: Mapping[str, Any], remarks: Sequence[str]) -> str:
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
    text += "".join(_remark(line) for line in remarks)
    tables = "\n".join(map(_sublattice, declaration.sublattices))
    return (
        f"{text}\n# A first guess: check the species, and which sites hold them.\n{tables}\n"
        + _commented("[host.framework]", framework.sentence)
        + "".join(
            f"{element} = {as_toml(str(species))}\n"
            for element, species in declaration.framework.items()
        )
    )


def _remark(text: str) -> str:
    lines = textwrap.wrap(text, _WIDTH - 2, break_on_hyphens=False, break_long_words=False)
    return "".join(f"# {line}\n" for line in lines)


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
