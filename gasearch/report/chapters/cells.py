"""The chapter on lattice parameters and volume against x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.geometry import cell_to_cellpar

from gasearch.analysis.joint_hull import HullPoint, JointHull
from gasearch.display.plotting import COLOURS, MARKERS
from gasearch.report.material import Material, key_of
from gasearch.report.sections import Block, Chart, Section, Series, Table, Text, file_name, styled

AXES = ("a", "b", "c")


@dataclass(frozen=True)
class UnitCell:
    """The cell of a relaxed structure, folded to one unit cell of the host.

    Parameters
    ----------
    lengths
        (3,) a, b and c, in Å.
    angles
        (3,) in degrees.
    volume_per_fu
        In Å^3.
    """

    point: HullPoint
    lengths: tuple[float, ...]
    angles: tuple[float, ...]
    volume_per_fu: float


def unit_cells(material: Material, hull: JointHull) -> list[UnitCell]:
    """Return the cells of the lowest candidate of each composition in each supercell."""
    found = []
    seen = set()
    for point in hull.points:
        place = (point.cell, round(point.x, 9))
        if place in seen:
            continue
        seen.add(place)
        run = material.run(point.run)
        cell = run.relaxed(point.id, hull.level.name).atoms.cell.array
        unit = np.linalg.solve(run.host.matrix.astype(float), cell)
        shape = [float(value) for value in cell_to_cellpar(unit)]
        volume = abs(float(np.linalg.det(cell))) / run.n_units
        found.append(UnitCell(point, tuple(shape[:3]), tuple(shape[3:]), volume))
    return found


def cells_section(material: Material) -> Section:
    """Return lattice parameters and volumes of the lowest of each composition."""
    blocks: list[Block] = []
    volumes: list[Series] = []
    for hull, colour, symbol in styled(material.hulls_by_host):
        cells = unit_cells(material, hull)
        if not cells:
            blocks.append(Text(f"{hull.label}: no valid candidate yet."))
            continue
        volumes.append(_volumes(hull, cells, colour, symbol))
        blocks += [_lengths(hull, cells), _table(hull, cells)]
    if volumes:
        label = "volume (Å³/f.u.)"
        blocks.insert(0, Chart("volume", "Volume of the lowest candidates", "x", label, volumes))
    fixed = "DFT relaxes at fixed cell by default: its cells are then those of the search."
    return Section("cells", "Lattice", [*blocks, *([Text(fixed)] if material.dft_hulls else [])])


def _volumes(hull: JointHull, cells: Sequence[UnitCell], colour: str, symbol: str) -> Series:
    return Series(
        x=[one.point.x for one in cells],
        y=[one.volume_per_fu for one in cells],
        name=hull.label,
        colour=colour,
        symbol=symbol,
        texts=[_describe(one) for one in cells],
        targets=[key_of(one.point.run, one.point.id, hull.level.name) for one in cells],
    )


def _lengths(hull: JointHull, cells: Sequence[UnitCell]) -> Chart:
    first = cells[0].lengths
    series = [
        Series(
            x=[one.point.x for one in cells],
            y=[100 * (one.lengths[axis] / first[axis] - 1) for one in cells],
            name=f"{name} (from {first[axis]:.3f} Å)",
            colour=COLOURS[axis],
            symbol=MARKERS[axis],
            texts=[f"{name} = {one.lengths[axis]:.4f} Å, {_describe(one)}" for one in cells],
        )
        for axis, name in enumerate(AXES)
    ]
    return Chart(
        name=file_name("lattice", hull.label),
        title=f"Lattice parameters of the unit cell, {hull.label}",
        x_label="x",
        y_label=f"change from x = {cells[0].point.x:.4g} (%)",
        series=series,
    )


def _describe(one: UnitCell) -> str:
    ground = ", ground state" if one.point.on_hull else ""
    return f"candidate {one.point.id}, {one.point.cell}{ground}"


def _table(hull: JointHull, cells: Sequence[UnitCell]) -> Table:
    names = ("x", "id", "cell", "a (Å)", "b (Å)", "c (Å)", "α (°)", "β (°)", "γ (°)", "V (Å³/f.u.)")
    rows = [
        (
            f"{one.point.x:.4g}",
            str(one.point.id),
            one.point.cell,
            *(f"{length:.4f}" for length in one.lengths),
            *(f"{angle:.2f}" for angle in one.angles),
            f"{one.volume_per_fu:.3f}",
        )
        for one in cells
    ]
    return Table(names, rows, f"{hull.label}, folded to the unit cell of the host", folded=True)
