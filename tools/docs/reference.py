"""Reference pages, made from the code: every command, every key of run.toml, the Python names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

import typer

import gasearch
from gasearch.cli.app import app
from gasearch.learning.settings import LearnSettings
from gasearch.run.config import RunSettings, settings_table
from gasearch.settings import Key, Section, as_toml, section_in

_MADE = "<!-- made from the code by tools/docs/reference.py -->\n"


def commands_page() -> str:
    """Return the page of all commands, from what `--help` prints."""
    text = ["# Commands\n", _MADE, _OF_ALL_COMMANDS]
    commands = list(_commands("gasearch", typer.main.get_command(app)))
    rows = [(f"[`{name}`](#{_slug(name)})", _summary(command)) for name, command in commands]
    text.append(_table(("command", "what"), rows))
    text += [_command(name, command) for name, command in commands]
    return "\n".join(text)


_OF_ALL_COMMANDS = """\
Every command takes `-h` or `--help`; those that report take `--json`, which prints one JSON
document on stdout and nothing else there. Exit status: 0 done, 1 failed (with one line that says
why and what to do), 2 wrong usage or configuration.
"""


def _commands(name: str, group: Any) -> Iterator[tuple[str, Any]]:
    for part, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(f"{name} {part}", command)
        elif not command.hidden:
            yield f"{name} {part}", command


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def _summary(command: Any) -> str:
    return str(inspect.cleandoc(command.help or "").partition("\n")[0])


def _command(name: str, command: Any) -> str:
    """Return the section of one command: what it does, how it is called, its options."""
    context = command.context_class(command, info_name=name)
    records = [parameter.get_help_record(context) for parameter in command.params]
    records = [record for record in records if record]
    rows = [(f"`{_option(first)}`", second) for first, second in records]
    # rows that follow one another in a docstring are one paragraph
    described = inspect.cleandoc(command.help or "")
    usage = command.get_usage(context).removeprefix("Usage: ")
    usage = re.sub(r"\{([A-Z.]+)\}", r"\1", usage)
    table = _table(("argument or option", "what"), rows) if rows else ""
    return f"## {name}\n\n{described}\n\n```text\n{usage}\n```\n\n{table}"


def _option(record: str) -> str:
    return record.replace(" <path>", "") if record[:1].isupper() else record


def run_file_page() -> str:
    """Return the page of all keys of run.toml, from the settings classes."""
    return _file_page(["# Every key of run.toml\n", _MADE, _OF_ALL_KEYS], RunSettings)


def learn_file_page() -> str:
    """Return the page of all keys of learn.toml, from the settings classes."""
    return _file_page(["# Every key of learn.toml\n", _MADE, _OF_LEARN_KEYS], LearnSettings)


def _file_page(text: list[str], root: type[Section]) -> str:
    by_section: dict[str, list[Key]] = {}
    for row in settings_table(root):
        by_section.setdefault(row.section, []).append(row)
    classes = dict(_classes(root, ""))
    names = list(classes)
    links = " · ".join(f"[`{_heading(name)}`](#{_anchor(name)})" for name in names)
    text.append(f"{links}\n")
    for name in names:
        section = classes[name]
        text.append(f"## {_heading(name)} {{ #{_anchor(name)} }}\n")
        if section is None:
            text.append(_OPERATORS)
        else:
            text += [f"{_about(section)}\n", _keys(by_section[name])]
    return "\n".join(text)


_OF_ALL_KEYS = """\
`gasearch init` writes a run.toml in which every key stands as a comment with its default, so that a
line is changed by taking its `#` away. A key marked **fixed** defines the search: it cannot change
once the search was started. All others can, and the change is recorded. A key that is unknown is
refused in one line, with the nearest known one.

A section with a dot is a table of its own, such as `[dft.gpaw]`; a table may be written inline,
such as `hubbard_u_eV = { Fe = 5.3 }`. Units other than eV and Å are in the name of the key or in
the column of units.
"""
_OF_LEARN_KEYS = """\
`gasearch init FOLDER --learn` writes a learn.toml in which every key stands as a comment with its
default, beside the run.toml that says what is searched, with which potential at first, and at which
DFT level. All keys may be changed between rounds; see [how to learn](../how-to/learn.md).
"""
_OPERATORS = """\
The moves of the search and how often each is drawn; all are fixed. Without this section all
registered operators are used, at their own weights. A key is the name of an operator, a class in
a file of the run folder, or a stock `ase_ga` operator; its value is a weight, or a table with
`weight` and the operator's own arguments: see [your own operator](../how-to/operators.md).

```toml
[operators]
na_vacancy_swap = 2
charge_swap = { weight = 1, n_swaps = 2 }
```
"""


def _classes(section: type[Section], name: str) -> Iterator[tuple[str, type[Section] | None]]:
    """Yield each section by its name, in the order of the file; None for [operators]."""
    for field_name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        path = f"{name}.{field_name}".removeprefix(".")
        if inner is not None:
            yield path, inner
            yield from _classes(inner, path)
        elif not name:
            yield path, None


def _heading(name: str) -> str:
    return "[[host.sublattice]]" if name == "host.sublattice" else f"[{name}]"


def _anchor(name: str) -> str:
    return name.replace(".", "-")


def _about(section: type[Section]) -> str:
    """Return the first paragraph of a section's docstring without its name."""
    first = inspect.cleandoc(section.__doc__ or "").partition("\n\n")[0]
    sentence = " ".join(first.partition(": ")[2].split())
    return sentence[:1].upper() + sentence[1:]


def _keys(rows: Iterable[Key]) -> str:
    head = ("key", "type", "default", "unit", "fixed", "what")
    return _table(
        head,
        [
            (
                f"`{row.name}`",
                row.type,
                "" if row.default is None else f"`{as_toml(row.default)}`",
                row.unit,
                "yes" if row.fixed is True else row.fixed or "no",
                row.sentence,
            )
            for row in rows
        ],
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    """Return text that Markdown leaves as it is in a cell; code stays code."""
    parts = re.split(r"(`[^`]*`)", text.replace("|", "\\|"))
    parts[::2] = [part.replace("<", "&lt;").replace("{", "&#123;") for part in parts[::2]]
    return " ".join("".join(parts).split())


_GROUPS = {
    "Crystals": ("builtin_host", "Host", "Decoration", "Species"),
    "Searching": ("initialize", "RunFolder", "Session"),
    "Reading": ("read_run", "Findings", "joint_hull", "hull_voltage"),
    "Potentials and relaxation": ("load_potential", "BatchRelaxer"),
    "Operators": ("LatticeOperator", "AseGaOperator"),
}


def python_page() -> str:
    """Return the page of the public Python names, with their docstrings."""
    grouped = [name for names in _GROUPS.values() for name in names]
    left = {*gasearch.__all__} - {*grouped, "__version__"}
    if left:
        raise KeyError(f"names of gasearch.__all__ without a place on the page: {sorted(left)}")
    text = ["# Python names\n", _MADE, _INTRODUCTION]
    for heading, names in _GROUPS.items():
        text.append(f"## {heading}\n")
        for name in names:
            home = gasearch._HOMES[name]
            text.append(
                f'<a id="{name}"></a>\n\n::: {home}.{name}\n'
                f"    options: {{heading: gasearch.{name}, toc_label: {name}}}\n"
            )
    text.append(_OTHERS)
    return "\n".join(text)


_INTRODUCTION = """\
These names are what `import gasearch` gives, each loaded when it is first asked for: the import
itself brings no numpy and no torch. They stay where they are between releases; what a release
changes in them is a **Breaking** line of the [changelog](../../CHANGELOG.md). All other modules
may move. How they work together: [a run from Python](../how-to/python.md).
"""
_OTHERS = """\
## For authors of plug-ins

`gasearch.testing` has the public checks, `check_operator` and `check_potential`. The
contracts that they check are [`gasearch.operators.contract`](#operator-contract) and
[`gasearch.potentials.contract`](#potential-contract).

<a id="operator-contract"></a>

::: gasearch.operators.contract.Operator

<a id="potential-contract"></a>

::: gasearch.potentials.contract.Potential
"""
