"""Chapters on DFT: what it did to charge orders, and how the potential ranks against it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gasearch.analysis.joint_hull import HullPoint, JointHull
from gasearch.display.plotting import GREY
from gasearch.report.material import Material
from gasearch.report.sections import Block, Chart, Section, Series, Table, Text, file_name, styled
from gasearch.store.dft_jobs import jobs

NO_DFT = "no DFT result was collected yet (gasearch promote, then gasearch dft run or export)."


@dataclass(frozen=True)
class Compared:
    """The candidates of one x that both levels have.

    Parameters
    ----------
    numbers
        (n,) of the candidates.
    first_eV_per_fu, second_eV_per_fu
        (n,) of the potential and of DFT, each above its mean.
    kendall, spearman
        Rank correlations; None with fewer than two candidates.
    """

    x: float
    numbers: tuple[int, ...]
    first_eV_per_fu: tuple[float, ...]
    second_eV_per_fu: tuple[float, ...]
    kendall: float | None
    spearman: float | None

    @property
    def rms_eV_per_fu(self) -> float:  # noqa: N802 -- the unit
        """Root mean square difference."""
        pairs = zip(self.first_eV_per_fu, self.second_eV_per_fu, strict=True)
        return math.sqrt(sum((a - b) ** 2 for a, b in pairs) / len(self.numbers))


def compare(search: JointHull, dft: JointHull) -> list[Compared]:
    """Return what both levels say of the same candidates, by x."""
    known = {(p.run, p.id): p for p in search.points}
    pairs = [(known[p.run, p.id], p) for p in dft.points if (p.run, p.id) in known]
    pairs.sort(key=lambda pair: (pair[0].x, pair[0].energy_eV_per_fu))
    groups = itertools.groupby(pairs, key=lambda pair: round(pair[0].x, 9))
    return [_compared(x, list(group)) for x, group in groups]


def _compared(x: float, pairs: Sequence[tuple[HullPoint, HullPoint]]) -> Compared:
    first = np.array([own.energy_eV_per_fu for own, _ in pairs])
    second = np.array([other.energy_eV_per_fu for _, other in pairs])
    kendall, spearman = _ranks(first, second)
    return Compared(
        x,
        tuple(own.id for own, _ in pairs),
        tuple((first - first.mean()).tolist()),
        tuple((second - second.mean()).tolist()),
        kendall,
        spearman,
    )


def _ranks(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[float | None, float | None]:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None, None
    from scipy.stats import kendalltau, spearmanr

    return float(kendalltau(first, second)[0]), float(spearmanr(first, second)[0])


def parity_section(material: Material) -> Section:
    """Return the energies of the potential against those of DFT, and how the ranks agree."""
    blocks: list[Block] = []
    for search, dft in itertools.product(material.search_hulls, material.dft_hulls):
        found = compare(search, dft)
        if not found:
            continue
        name = f"{search.level.name} against {dft.level.name}"
        blocks += [_chart(search, dft, found), _table(found, name)]
    return Section("parity", "Potential against DFT", blocks or [Text(f"Nothing here: {NO_DFT}")])


def _chart(search: JointHull, dft: JointHull, found: Sequence[Compared]) -> Chart:
    every = [1000 * e for one in found for e in (*one.first_eV_per_fu, *one.second_eV_per_fu)]
    ends = [min(every), max(every)]
    series = [Series(ends, ends, "line", "equal", GREY, dash=True)]
    for one, colour, symbol in styled(found):
        series.append(
            Series(
                x=[1000 * e for e in one.second_eV_per_fu],
                y=[1000 * e for e in one.first_eV_per_fu],
                name=f"x = {one.x:.4g}",
                colour=colour,
                symbol=symbol,
                texts=[f"candidate {number}" for number in one.numbers],
            )
        )
    return Chart(
        name=file_name("parity", search.level.name, dft.level.name),
        title="Energies relative to the mean of each x",
        x_label=f"{dft.level.name} (meV/f.u.)",
        y_label=f"{search.level.name} (meV/f.u.)",
        series=series,
        equal_axes=True,
        height=460,
    )


def _table(found: Sequence[Compared], name: str) -> Table:
    rows = [
        (
            f"{one.x:.4g}",
            str(len(one.numbers)),
            _rank(one.kendall),
            _rank(one.spearman),
            f"{1000 * one.rms_eV_per_fu:.1f}",
        )
        for one in found
    ]
    columns = ("x", "candidates", "Kendall tau", "Spearman rho", "RMS difference (meV/f.u.)")
    return Table(columns, rows, f"{name}; each level on its own relaxed structures")


def _rank(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def jobs_section(material: Material) -> Section:
    """Return what DFT did to the charge order of each candidate."""
    rows = []
    for run in material.runs:
        for job in jobs(run.store):
            found = "-" if job.found is None else str(job.found)
            words = job.charge_order or "-", found, job.reason
            rows.append((run.name, str(job.candidate), job.level, job.state, *words))
    if not rows:
        text = "Nothing here: no candidate was promoted to a DFT job yet (gasearch promote)."
        return Section("dft", "DFT jobs", [Text(text)])
    orders = [row[4] for row in rows]
    counted = ", ".join(f"{orders.count(o)} {o}" for o in ("kept", "moved", "delocalised"))
    columns = ("run", "asked for", "level", "state", "charge order", "came out", "why")
    return Section("dft", "DFT jobs", [Text(f"Charge orders: {counted}."), Table(columns, rows)])
