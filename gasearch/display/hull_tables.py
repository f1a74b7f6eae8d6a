"""What the commands `hull`, `voltage` and `promote` show: tables, lines, and JSON."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from gasearch.analysis.hull import NoEndMemberError
from gasearch.analysis.hull_history import HullSnapshot
from gasearch.analysis.joint_hull import HullPoint, JointHull
from gasearch.analysis.thermodynamics import TWO_SIZES, UPPER_BOUND, ThermalCurve
from gasearch.analysis.voltage import Metal, VoltageCurve
from gasearch.crystal.chemistry import Chemistry
from gasearch.dft.promotion import Plan
from gasearch.display.tables import ABOVE, FORMATION, electronvolt, make_table, milli


def hull_document(hull: JointHull) -> dict[str, Any]:
    """Return the hull as `gasearch hull --json` prints it."""
    points = [
        {
            "id": point.id,
            "x": point.x,
            "formation_energy_eV_per_fu": point.formation_energy_eV_per_fu,
            "on_hull": point.on_hull,
            "operator": point.operator,
            "above_hull_eV_per_fu": point.above_hull_eV_per_fu,
            "run": point.run,
            "cell": point.cell,
            "host": point.host,
            "above_own_hull_eV_per_fu": point.above_own_hull_eV_per_fu,
        }
        for point in hull.points
    ]
    return {
        "level": hull.level.name,
        "ranks_only": hull.level.ranks_only,
        "hosts": [_host_document(own) for own in hull.by_host],
        "points": points,
    }


def _host_document(own: JointHull) -> dict[str, Any]:
    """Return one of the hosts, with its formation energies against its own ends."""
    members = [] if own.missing_ends() else own.vertices()
    names = ("run", "id", "x", "formation_energy_eV_per_fu")
    return {
        "host": own.hosts[0],
        "formula": Chemistry.of(own.host).formula(1),
        "x_range": list(own.x_range),
        "missing_ends": own.missing_ends(),
        "ground_states": [{name: getattr(point, name) for name in names} for point in members],
    }


def history_document(history: Sequence[HullSnapshot], hull: JointHull) -> list[dict[str, Any]]:
    """Return the hulls of a history, as formation energies against the ends as they are now."""
    return [
        {
            "n_candidates": moment.n_candidates,
            "points": [
                {"x": x, "formation_energy_eV_per_fu": energy}
                for x, energy in moment.formation(hull)
            ],
        }
        for moment in history
    ]


def history_table(history: Sequence[HullSnapshot], hull: JointHull) -> Table:
    """Return how the hull came down."""
    names = ("candidates", "hull members", "lowest E_f\n(meV/f.u.)", "at x")
    return make_table(names, (_history_cells(moment, hull) for moment in history))


def _history_cells(moment: HullSnapshot, hull: JointHull) -> tuple[str, ...]:
    x, lowest = min(moment.formation(hull), key=lambda point: point[1], default=(None, None))
    at = "-" if x is None else f"{x:.4g}"
    return str(moment.n_candidates), str(len(moment.vertices)), milli(lowest), at


def points_table(points: Iterable[HullPoint], *, with_host: bool = False) -> Table:
    """Return the points of a hull of several runs, each with its run and its cell."""
    columns: dict[str, Callable[[HullPoint], str]] = {
        "x": lambda point: f"{point.x:.4g}",
        **({"host": lambda point: point.host} if with_host else {}),
        "run": lambda point: point.run,
        "cell": lambda point: point.cell,
        "id": lambda point: str(point.id),
        "E\n(eV/f.u.)": lambda point: electronvolt(point.energy_eV_per_fu),
        FORMATION: lambda point: milli(point.formation_energy_eV_per_fu),
        ABOVE: lambda point: milli(point.above_hull_eV_per_fu),
        "fingerprint": lambda point: point.fingerprint,
    }
    return make_table(columns, ([text(point) for text in columns.values()] for point in points))


def own_hull_tables(hull: JointHull) -> list[str | Table]:
    """Return the ground states of each of several hosts, placed against the common hull."""
    shown: list[str | Table] = []
    for own in hull.by_host if len(hull.hosts) > 1 else ():
        name = own.hosts[0]
        missing = own.missing_ends()
        if missing:
            shown.append(f"\n{name}: {NoEndMemberError(missing)}")
            continue
        ground = [point for point in hull.points if point.host == name and point.on_own_hull]
        shown += [
            f"\non the hull of {name} alone, against the common ends:\n",
            points_table(ground),
        ]
    return shown


def metal_line(level: str, metal: Metal) -> str:
    """Return what voltages are measured against."""
    return (
        f"level {level}; against {metal.element} metal, {metal.energy:.4f} eV/atom ({metal.source})"
    )


def voltage_table(curve: VoltageCurve, ends: Sequence[HullPoint]) -> Table:
    """Return the plateaus between ground states."""
    names = ["x", "to x", "voltage\n(V)", "capacity\n(mAh/g)", "id", "to id"]
    several = [
        name for name in ("run", "host") if len({getattr(point, name) for point in ends}) > 1
    ]
    rows = []
    for step, before, after in zip(curve.steps, ends, ends[1:], strict=False):
        cells = [f"{step.x_from:.4g}", f"{step.x_to:.4g}", f"{step.voltage_V:.3f}"]
        cells += [f"{step.capacity_mAh_per_g:.1f}", str(before.id), str(after.id)]
        cells += [getattr(point, name) for name in several for point in (before, after)]
        rows.append(cells)
    return make_table([*names, *(f"{to}{name}" for name in several for to in ("", "to "))], rows)


def rebuilt_lines(ends: Sequence[HullPoint]) -> list[str]:
    """Return where the ground states of a hull go from one host to another."""
    return [
        f"note: from x = {before.x:.4g} to {after.x:.4g} the hull goes from {before.host} to "
        f"{after.host}: there the framework would have to be rebuilt, so no cell follows this step "
        "unless that is fast"
        for before, after in itertools.pairwise(ends)
        if before.host != after.host
    ]


def voltage_line(curve: VoltageCurve) -> str:
    """Return the average, the capacity and the energy density, per mass of what."""
    return (
        f"average {curve.average_voltage_V:.3f} V, {curve.capacity_mAh_per_g:.1f} mAh/g, "
        f"{curve.energy_density_Wh_per_kg:.0f} Wh/kg of {curve.cathode.formula}"
    )


def host_voltage_tables(
    hull: JointHull, by_host: Mapping[str, VoltageCurve | Exception]
) -> list[str | Table]:
    """Return the plateaus of each of several hosts, as `host_voltages` found them."""
    shown: list[str | Table] = []
    for name, found in by_host.items():
        if not isinstance(found, VoltageCurve):
            shown.append(f"\n{name}: {found}")
            continue
        table = voltage_table(found, hull.of_host(name).vertices())
        shown += [f"\n{name} alone: {voltage_line(found)}\n", table]
    return shown


def voltage_document(
    hull: JointHull,
    curve: VoltageCurve,
    ends: Sequence[HullPoint],
    by_host: Mapping[str, VoltageCurve | Exception] | None = None,
) -> dict[str, Any]:
    """Return the voltage as `gasearch voltage --json` prints it.

    Parameters
    ----------
    by_host
        Of several hosts, what `host_voltages` found.
    """
    document = _curve_document(curve, ends)
    hosts = [
        {"host": name, **_curve_document(found, hull.of_host(name).vertices())}
        if isinstance(found, VoltageCurve)
        else {"host": name, "problem": str(found)}
        for name, found in (by_host or {}).items()
    ]
    return {
        "level": hull.level.name,
        "ranks_only": hull.level.ranks_only,
        "metal": _metal_document(curve.metal),
        **document,
        **({"hosts": hosts} if hosts else {}),
    }


def _curve_document(curve: VoltageCurve, ends: Sequence[HullPoint]) -> dict[str, Any]:
    steps = [
        {
            **dataclasses.asdict(step),
            "from": {"run": before.run, "host": before.host, "cell": before.cell, "id": before.id},
            "to": {"run": after.run, "host": after.host, "cell": after.cell, "id": after.id},
        }
        for step, before, after in zip(curve.steps, ends, ends[1:], strict=False)
    ]
    return {
        "steps": steps,
        "average_voltage_V": curve.average_voltage_V,
        "capacity_mAh_per_g": curve.capacity_mAh_per_g,
        "energy_density_Wh_per_kg": curve.energy_density_Wh_per_kg,
        "discharged_formula": curve.cathode.formula,
    }


def _metal_document(metal: Metal) -> dict[str, Any]:
    return {
        "element": metal.element,
        "energy_eV_per_atom": metal.energy,
        "source": metal.source,
    }


def thermal_table(curve: ThermalCurve) -> Table:
    """Return the free energies of a cell at its compositions."""
    names = ("x", "evaluated /\ndistinct", "lowest E\n(eV/f.u.)", "F\n(eV/f.u.)")
    return make_table(
        (*names, "F_f\n(meV/f.u.)", "entropy\n(k/f.u.)"),
        (
            (
                f"{point.x:.4g}",
                f"{point.n_evaluated:,} / {point.n_distinct:,}",
                electronvolt(point.lowest_energy_eV_per_fu),
                f"{'' if point.is_exhausted else '<= '}{electronvolt(point.free_energy_eV_per_fu)}",
                milli(point.formation_free_energy_eV_per_fu),
                f"{point.entropy_kB_per_fu:.3f}",
            )
            for point in curve.points
        ),
    )


def thermal_steps_table(curve: ThermalCurve) -> Table:
    """Return the voltages of a cell between neighbouring compositions."""
    rows = [
        (
            f"{step.x_from:.4g}",
            f"{step.x_to:.4g}",
            f"{step.voltage_V:.3f}",
            f"{step.slope_voltage_V:.3f}",
        )
        for step in curve.steps
    ]
    return make_table(("x", "to x", "voltage\n(V)", "of dF/dx\n(V)"), rows)


def thermal_document(
    hull: JointHull, metal: Metal | None, curves: Sequence[ThermalCurve], temperature_K: float
) -> dict[str, Any]:
    """Return free energies and voltages as `gasearch voltage --temperature --json` prints them."""
    runs = []
    for curve in curves:
        document = dataclasses.asdict(curve)
        document.pop("temperature_K")
        document["is_exhausted"] = curve.is_exhausted
        for shown, point in zip(document["points"], curve.points, strict=True):
            shown["is_exhausted"] = point.is_exhausted
        runs.append(document)
    return {
        "level": hull.level.name,
        "ranks_only": hull.level.ranks_only,
        "temperature_K": temperature_K,
        "metal": None if metal is None else _metal_document(metal),
        "runs": runs,
        "notes": thermal_notes(curves),
    }


def thermal_notes(curves: Sequence[ThermalCurve]) -> list[str]:
    """Return what a reader of free energies must know about them."""
    sizes = {curve.n_formula_units for curve in curves}
    return [f"note: {UPPER_BOUND}", *([TWO_SIZES] if len(sizes) < 2 else [])]


def promotion_table(plan: Plan) -> Table:
    """Return what is promoted now."""
    return make_table(
        ("id", "x", FORMATION, ABOVE, "rule", "reason"),
        (
            (
                str(one.row.id),
                f"{one.row.x:.4g}",
                milli(one.row.formation_energy_eV_per_fu),
                milli(one.row.above_hull_eV_per_fu),
                one.rule,
                one.reason,
            )
            for one in plan.new
        ),
    )


def promotion_line(plan: Plan, dry_run: bool, folder: str) -> str:
    """Return what became of the promotions."""
    before = f"{len(plan.known)} before" if plan.known else "none before"
    if not plan.new:
        return f"nothing new to promote; {before}"
    if dry_run:
        return f"{len(plan.new)} would be promoted, {before}; do it with: gasearch promote {folder}"
    return f"{len(plan.new)} promoted, {before}"


def promotion_document(plan: Plan, dry_run: bool) -> dict[str, Any]:
    """Return the promotions as `gasearch promote --json` prints them."""
    new: list[Mapping[str, Any]] = [
        {
            "id": one.row.id,
            "x": one.row.x,
            "rule": one.rule,
            "reason": one.reason,
            "formation_energy_eV_per_fu": one.row.formation_energy_eV_per_fu,
            "above_hull_eV_per_fu": one.row.above_hull_eV_per_fu,
            "fingerprint": one.row.fingerprint,
        }
        for one in plan.new
    ]
    known = [{"id": row.candidate, "rule": row.rule, "reason": row.reason} for row in plan.known]
    notes = list(plan.notes)
    return {"level": plan.level, "dry_run": dry_run, "new": new, "known": known, "notes": notes}
