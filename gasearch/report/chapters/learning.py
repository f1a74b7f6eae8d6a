"""The chapter on a learning loop: what each round found, and DFT jobs against the hull's error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gasearch.display.plotting import BLUE, ORANGE
from gasearch.learning import summary
from gasearch.learning.folder import LearnFolder
from gasearch.report.material import Material
from gasearch.report.sections import Block, Chart, Section, Series, Table, Text, file_name

_TITLE = "Learning from DFT"
_NONE = "Nothing here: these folders are no rounds of a learning loop (gasearch learn)."
_HOW = (
    "Formation energies, tau and forces compare what was expected of a round's candidates before "
    "their DFT with what DFT said. Hull errors are largest deviations from the last hull of DFT: "
    "of the hull that was expected before a round's DFT, and of all results after it."
)


def learning_section(material: Material) -> Section:
    """Return the rounds of the loops that the folders are, and their learning curves."""
    blocks: list[Block] = []
    numbers = []
    for loop in material.loops:
        document = summary.learn_document(loop)
        numbers.append({"folder": str(loop.path), **document})
        if document["rounds"]:
            columns = [name.replace("\n", " ") for name in summary.COLUMNS]
            blocks += [
                Table(columns, summary.rows(document), f"{loop.path}: its rounds"),
                _curve(str(loop.path), document["learning_curve"]),
                Table(*_chosen(loop), f"{loop.path}: what was sent to DFT, and why", folded=True),
            ]
    if blocks:
        blocks.insert(0, Text(_HOW))
    return Section("learning", _TITLE, blocks or [Text(_NONE)], {"learning": numbers})


def _curve(name: str, curve: Sequence[Mapping[str, Any]]) -> Chart:
    """Return DFT jobs against the errors of the hull."""
    series = []
    for key, label, colour in (
        ("expected_hull_error_per_fu", "expected before the DFT of the round", ORANGE),
        ("hull_error_per_fu", "all DFT results so far", BLUE),
    ):
        known = [one for one in curve if one[key] is not None]
        jobs, errors = [one["jobs"] for one in known], [1000 * one[key] for one in known]
        texts = [f"round {one['round']}" for one in known]
        series.append(Series(jobs, errors, "line", "", colour, hovers=False))
        series.append(Series(jobs, errors, "points", label, colour, texts=texts))
    return Chart(
        name=file_name("learning-curve", name),
        title="Learning curve",
        x_label="DFT jobs",
        y_label="largest error of the hull (meV/f.u.)",
        series=series,
        height=320,
    )


def _chosen(loop: LearnFolder) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the head and rows of the table of all that was sent to DFT."""
    rows: list[tuple[str, ...]] = []
    for one in loop.rounds():
        for row in (one.plan() or {}).get("chosen", ()):
            sigma = row["sigma_per_fu"]
            rows.append(
                (
                    str(one.number),
                    row["run"],
                    str(row["id"]),
                    f"{row['x']:.4g}",
                    row["rule"],
                    row["reason"],
                    "-" if sigma is None else f"{1000 * sigma:.1f}",
                )
            )
    return ["round", "run", "id", "x", "rule", "why", "sigma (meV/f.u.)"], rows
