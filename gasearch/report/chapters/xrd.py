"""The chapter on X-ray diffraction: ground states beside the parent, with superstructure lines."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from gasearch.crystal.host import Host
from gasearch.display.plotting import COLOURS, GREY, VERMILION
from gasearch.errors import GasearchError
from gasearch.report.material import Material
from gasearch.report.sections import Block, Chart, Section, Series, Table, Text, file_name

RADIATION = "CuKa"
_TWO_THETA = (8.0, 60.0)  # degrees
_FWHM = 0.15  # degrees
_WEAKEST = 0.1  # % of the strongest line: a superstructure line that is marked
_MOST = 8  # ground states in one figure
_OFFSET = 110.0
_INTEGER = 1e-6


class NoPatternError(GasearchError, RuntimeError):
    """Diffraction asked for without the package that simulates it."""

    def __str__(self) -> str:
        return "no pymatgen here, which simulates diffraction; try: pip install 'gasearch[report]'"


@dataclass(frozen=True, eq=False)
class Pattern:
    """A simulated powder pattern.

    Parameters
    ----------
    two_theta
        (n,) in degrees.
    intensities
        (n,) in % of the strongest.
    indices
        (n,) one reflection of each line, in the parent's unit cell; (3,) each.
    is_superstructure
        (n,) whether the parent has no line there: it does not lie on the parent's reciprocal
        lattice, or its space group forbids it.
    """

    two_theta: NDArray[np.float64]
    intensities: NDArray[np.float64]
    indices: NDArray[np.float64]
    is_superstructure: NDArray[np.bool_]


def pattern(atoms: Atoms, host: Host, matrix: NDArray[np.int64]) -> Pattern:
    """Return the pattern of a structure whose cell is `matrix` times the host's unit cell."""
    try:
        from pymatgen.analysis.diffraction.xrd import XRDCalculator
        from pymatgen.core.structure import Structure
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pymatgen":
            raise
        raise NoPatternError from error
    structure = Structure(atoms.cell.array, list(atoms.symbols), atoms.get_scaled_positions())
    found: Any = XRDCalculator(wavelength=RADIATION).get_pattern(
        structure, two_theta_range=_TWO_THETA
    )
    families = [[_three(family["hkl"]) for family in line] for line in found.hkls]
    to_parent = np.linalg.inv(matrix.astype(float))
    in_parent = [np.array(line) @ to_parent.T for line in families]
    forbidden = [all(not _is_allowed(hkl, host) for hkl in line) for line in in_parent]
    return Pattern(
        np.asarray(found.x, dtype=float),
        np.asarray(found.y, dtype=float),
        np.array([line[0] for line in in_parent]).reshape(-1, 3),
        np.array(forbidden, dtype=bool),
    )


def _three(hkl: Sequence[int]) -> tuple[int, int, int]:
    """Return Miller indices of three numbers; hexagonal cells come with four."""
    return (hkl[0], hkl[1], hkl[-1])


def _is_allowed(hkl: NDArray[np.float64], host: Host) -> bool:
    """Return whether the parent's space group allows a reflection of its unit cell."""
    if np.abs(hkl - np.round(hkl)).max() > _INTEGER:
        return False
    group = host.space_group
    unit = np.linalg.solve(host.matrix.astype(float), host.atoms.cell.array)
    primitive = group.primitive @ np.linalg.inv(unit) @ hkl
    if np.abs(primitive - np.round(primitive)).max() > 1e-3:
        return False  # absent by centring
    index = np.round(primitive)
    for rotation, translation in zip(group.rotations, group.translations, strict=True):
        phase = float(index @ translation)
        if np.array_equal(index @ rotation, index) and abs(phase - round(phase)) > 1e-3:
            return False
    return True


def parent_pattern(host: Host) -> Pattern:
    """Return the pattern of the undistorted host, all working-ion sites filled, in its own cell."""
    return pattern(host.atoms, host, host.matrix)


def profile(found: Pattern, grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pattern (n_grid,) with Gaussian lines, its highest point at 100."""
    sigma = _FWHM / 2.3548
    total = np.zeros_like(grid)
    for place, height in zip(found.two_theta, found.intensities, strict=True):
        near = np.abs(grid - place) < 6 * sigma
        total[near] += height * np.exp(-0.5 * ((grid[near] - place) / sigma) ** 2)
    return np.asarray(100 * total / (total.max() or 1.0))


def xrd_section(material: Material) -> Section:
    """Return the patterns of the ground states of each search, above that of the parent."""
    blocks: list[Block] = []
    for hull in (own for joint in material.search_hulls for own in joint.by_host):
        members = material.members(hull)[:_MOST]
        if not members:
            blocks.append(Text(f"{hull.label}: no valid candidate yet."))
            continue
        try:
            found = [("parent", parent_pattern(hull.host))]
            for point in members:
                run = material.run(point.run)
                atoms = run.relaxed(point.id, hull.level.name).atoms
                name = f"x = {point.x:.4g}, candidate {point.id} ({point.cell})"
                found.append((name, pattern(atoms, run.host, run.host.matrix)))
        except NoPatternError as error:
            return Section("xrd", "X-ray diffraction", [Text(f"Nothing here: {error}.")])
        blocks += [_chart(hull.label, found), _table(found[1:])]
    note = (
        "Cu Kα, neutral atoms, no thermal motion. The parent is the undistorted host with all "
        "working-ion sites filled; lines of a ground state that the parent's lattice or space "
        "group forbids are marked. Indices are those of the parent's unit cell."
    )
    return Section("xrd", "X-ray diffraction", [*blocks, Text(note)])


def _chart(level: str, found: Sequence[tuple[str, Pattern]]) -> Chart:
    grid = np.arange(_TWO_THETA[0], _TWO_THETA[1], 0.04)
    series = []
    marks: list[tuple[float, float, str]] = []
    for n, ((name, own), colour) in enumerate(
        zip(found, itertools.cycle((GREY, *COLOURS[:3], COLOURS[4], COLOURS[5])), strict=False)
    ):
        base = n * _OFFSET
        curve = base + profile(own, grid)
        x, y = np.round(grid, 2).tolist(), np.round(curve, 2).tolist()
        series.append(Series(x, y, "line", name, colour, width=1.0))
        marks += [(place, base - 4, f"{name}: {text}") for place, text in _superstructure(own)]
    if marks:
        places, heights, texts = zip(*marks, strict=True)
        name = "superstructure lines"
        series.append(
            Series(places, heights, "points", name, VERMILION, "^", texts, size=6, opacity=0.9)
        )
    return Chart(
        name=file_name("xrd", level),
        title=f"Simulated X-ray diffraction, {level}",
        x_label="2θ (°), Cu Kα",
        y_label="intensity",
        series=series,
        show_y_ticks=False,
        height=220 + 60 * len(found),
    )


def _superstructure(own: Pattern) -> list[tuple[float, str]]:
    lines = zip(own.two_theta, own.intensities, own.indices, own.is_superstructure, strict=True)
    return [
        (float(place), f"{place:.2f}°, {height:.2f} %, ({_hkl(hkl)})")
        for place, height, hkl, is_new in lines
        if is_new and height >= _WEAKEST
    ]


def _hkl(indices: NDArray[np.float64]) -> str:
    from fractions import Fraction

    return " ".join(str(Fraction(float(i)).limit_denominator(24)) for i in indices)


def _table(found: Sequence[tuple[str, Pattern]]) -> Table:
    rows = []
    for name, own in found:
        order = np.argsort(-own.intensities)
        new = [n for n in order if own.is_superstructure[n] and own.intensities[n] >= _WEAKEST]
        strongest = [
            f"{own.two_theta[n]:.2f}° ({_hkl(own.indices[n])}) {own.intensities[n]:.1f} %"
            for n in new[:4]
        ]
        rows.append((name, str(len(new)), "; ".join(strongest) or "-"))
    return Table(("ground state", "superstructure lines", "the strongest"), rows)
