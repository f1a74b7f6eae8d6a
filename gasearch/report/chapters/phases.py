"""The chapter on phases over temperature and composition, as `gasearch phase-diagram` left them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from gasearch.display.plotting import BLUE, ORANGE
from gasearch.report.material import Material
from gasearch.report.sections import Block, Chart, Section, Series, Table, Text, file_name

_NONE = "Not computed: gasearch phase-diagram makes it from these run folders."
_TITLE = "Phases over temperature and composition"


def phases_section(material: Material) -> Section:
    """Return the two-phase regions, with the entropy of the charges and without."""
    blocks: list[Block] = []
    found: list[dict[str, Any]] = []
    for run in material.runs:
        file = run.folder.path / "phase-diagram" / "phase-diagram.json"
        try:
            document = json.loads(file.read_text("utf-8"))
            own = list(_blocks(document, run.name))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # none there, or not one of ours
        blocks += own
        found.append({"run": run.name, "diagrams": [_short(one) for one in document["diagrams"]]})
    return Section("phases", _TITLE, blocks or [Text(_NONE)], {"phase_diagrams": found})


def _short(diagram: dict[str, Any]) -> dict[str, Any]:
    return {key: diagram[key] for key in ("disorder", "two_phases_up_to_K", "transitions")}


def _blocks(document: dict[str, Any], run: str) -> Iterable[Block]:
    own = document["models"][0]["left_out"][0]
    yield Text(
        f"{run}: {document['n_formula_units']} formula units. Crystals that the Hamiltonian did "
        f"not see are missed by {1000 * own['error']:.1f} meV/f.u. "
        f"({own['explained']:.0%} explained)."
    )
    for diagram in document["diagrams"]:
        yield _chart(diagram, run)
    rows = [
        (diagram["disorder"], f"{one['x']:.4g}", one["what"], _kelvin(one["temperature_K"]))
        for diagram in document["diagrams"]
        for one in diagram["transitions"]
    ]
    if rows:
        yield Table(("disorder", "x", "order of", "lost at (K)"), rows)


def _kelvin(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _chart(diagram: dict[str, Any], run: str) -> Chart:
    """Return where two phases begin and end."""
    ends = [
        (gap[side], at["temperature_K"], side)
        for at in diagram["temperatures"]
        for gap in at["two_phase"]
        for side in ("x_from", "x_to")
    ]
    series = [
        Series(
            [x for x, _, own in ends if own == side],
            [t for _, t, own in ends if own == side],
            name=name,
            colour=colour,
        )
        for side, name, colour in (
            ("x_from", "two phases from", BLUE),
            ("x_to", "two phases to", ORANGE),
        )
    ]
    return Chart(
        name=file_name("phases", run, diagram["disorder"]),
        title=f"{run}: {diagram['disorder']}",
        x_label="x",
        y_label="T (K)",
        series=series,
        whole_x=True,
    )
