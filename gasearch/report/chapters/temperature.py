"""The chapter on free energies: of each run's own cell, at one temperature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gasearch.analysis.hull import NoEndMemberError
from gasearch.analysis.joint_hull import JointHull
from gasearch.analysis.thermodynamics import (
    ThermalCurve,
    ThermalPoint,
    thermal_curve,
)
from gasearch.analysis.voltage import Metal, NoMetalError, VoltageCurve, hull_voltage, metal_of
from gasearch.display.hull_tables import metal_line, thermal_document, thermal_notes
from gasearch.display.plotting import COLOURS, plateaus
from gasearch.display.tables import RANKS_ONLY, milli
from gasearch.errors import GasearchError
from gasearch.report.material import Material
from gasearch.report.sections import (
    Block,
    Chart,
    Section,
    Series,
    Table,
    Text,
    file_name,
    styled,
)

_MARKS = "Filled marks: all decorations of that x were evaluated. Open marks: F is an upper bound."


def temperature_section(material: Material) -> Section:
    """Return free energies and voltages at a temperature, of each cell at each level."""
    blocks: list[Block] = []
    shown: list[ThermalCurve] = []
    documents: list[dict[str, Any] | None] = []
    for hull in material.hulls:
        name = hull.level.name
        documents.append(None)
        if hull.level.ranks_only:
            text = f"{name}: no free energies. {RANKS_ONLY.removeprefix('note: ')}."
            blocks.append(Text(text, is_warning=True))
            continue
        metal, why = _metal(hull)
        curves, problems = _thermal_curves(hull, metal, material.temperature_K)
        blocks += [Text(f"{name}: {problem}") for problem in problems]
        if not curves:
            continue
        shown += curves
        documents[-1] = thermal_document(hull, metal, curves, material.temperature_K)
        against = f"{why}." if metal is None else f"{metal_line(name, metal)}."
        blocks += [Text(against), _free_energies(hull, curves)]
        if metal is not None:
            blocks.append(_voltages(hull, metal, curves))
        blocks.append(_table(hull, curves))
    notes = [f"{note.removeprefix('note: ')}." for note in thermal_notes(shown)] if shown else []
    title = f"Free energies at {material.temperature_K:g} K"
    sentences = [*map(_sentence, notes), *([_MARKS] if shown else [])]
    return Section(
        "temperature", title, [*map(Text, sentences), *blocks], {"temperatures": documents}
    )


def _thermal_curves(
    hull: JointHull, metal: Metal | None, temperature_K: float
) -> tuple[list[ThermalCurve], list[str]]:
    """Return the free energies of each run's cell, and why some runs have none."""
    curves, problems = [], []
    for member in hull.members:
        try:
            curves.append(thermal_curve(member, metal, temperature_K))
        except NoEndMemberError as error:
            problems.append(f"{member.cell} ({member.name}) has no free energies: {error}")
    return curves, problems


def _metal(hull: JointHull) -> tuple[Metal | None, str]:
    """Return the metal at the level of a hull, or why there is none."""
    try:
        return metal_of(hull.members[0]), ""
    except NoMetalError as error:
        return None, f"{hull.level.name}: {str(error).split('; give the')[0]}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _free_energies(hull: JointHull, curves: Sequence[ThermalCurve]) -> Chart:
    series = []
    for curve, colour, symbol in styled(curves):
        label = _name(curve, curves)
        x = [point.x for point in curve.points]
        heights = [1000 * point.formation_free_energy_eV_per_fu for point in curve.points]
        series.append(Series(x, heights, "line", label, colour))
        for is_exhausted in (True, False):
            own = [point for point in curve.points if point.is_exhausted is is_exhausted]
            if own:
                series.append(_points(own, label, colour, symbol, filled=is_exhausted))
    return Chart(
        name=file_name("free-energy", hull.level.name),
        title=f"F(x, {curves[0].temperature_K:g} K) against its ends",
        x_label="x",
        y_label="formation free energy (meV/f.u.)",
        series=series,
    )


def _points(
    points: Sequence[ThermalPoint], label: str, colour: str, symbol: str, *, filled: bool
) -> Series:
    return Series(
        x=[point.x for point in points],
        y=[1000 * point.formation_free_energy_eV_per_fu for point in points],
        colour=colour,
        symbol=symbol,
        texts=[f"{label}: {_describe(point)}" for point in points],
        filled=filled,
        size=8,
    )


def _describe(point: ThermalPoint) -> str:
    bound = "" if point.is_exhausted else ", F is an upper bound"
    return f"{point.n_evaluated:,} of {point.n_distinct:,} decorations{bound}"


def _voltages(hull: JointHull, metal: Metal, curves: Sequence[ThermalCurve]) -> Chart:
    series = []
    for curve, colour, _ in styled(curves):
        label = f"{_name(curve, curves)}, {curve.temperature_K:g} K"
        series.append(Series(*plateaus(curve.steps), "line", label, colour))
    cold = _cold(hull)
    if cold is not None:
        colour = COLOURS[len(curves) % len(COLOURS)]
        series.append(Series(*plateaus(cold.steps), "line", "T = 0, all cells", colour, dash=True))
    return Chart(
        name=file_name("voltage-at-temperature", hull.level.name),
        title=f"Voltage from dF/dx, {hull.level.name}",
        x_label="x",
        y_label=f"voltage against {metal.element} metal (V)",
        series=series,
    )


def _cold(hull: JointHull) -> VoltageCurve | None:
    try:
        return hull_voltage(hull)
    except GasearchError:
        return None


def _name(curve: ThermalCurve, curves: Sequence[ThermalCurve]) -> str:
    """Return the cell, and the run where two have the same cell."""
    alike = sum(other.cell == curve.cell for other in curves)
    bound = "" if curve.is_exhausted else " (bound)"
    return f"{curve.cell}{f' ({curve.run})' if alike > 1 else ''}{bound}"


def _table(hull: JointHull, curves: Sequence[ThermalCurve]) -> Table:
    names = ("cell", "run", "x", "evaluated / distinct", "F (eV/f.u.)", "F_f (meV/f.u.)")
    rows = [
        (
            curve.cell,
            curve.run,
            f"{point.x:.4g}",
            f"{point.n_evaluated:,} / {point.n_distinct:,}",
            f"{'' if point.is_exhausted else '<= '}{point.free_energy_eV_per_fu:.4f}",
            milli(point.formation_free_energy_eV_per_fu),
            f"{point.entropy_kB_per_fu:.3f}",
        )
        for curve in curves
        for point in curve.points
    ]
    caption = f"{hull.level.name}, {curves[0].temperature_K:g} K, each cell for itself"
    return Table((*names, "entropy (k/f.u.)"), rows, caption, folded=True)
