"""One hull of several run folders: one host, one level of theory, cells of any size."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gasearch.analysis.findings import Ranked, known_of
from gasearch.analysis.hull import NoEndMemberError, places
from gasearch.crystal.host import Host
from gasearch.crystal.io.hosts import host_from_json
from gasearch.errors import UsageError
from gasearch.run.folder import RunFolder
from gasearch.store.dft_jobs import dft_levels, dft_rows
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import EvaluationRow, LevelRecord, RunRecord


class DifferentRunsError(UsageError):
    """Runs whose energies cannot be compared."""

    def __init__(self, what: str, first: tuple[str, str], second: tuple[str, str]) -> None:
        super().__init__(what, first, second)
        self.what = what
        self.first = first
        self.second = second

    def __str__(self) -> str:
        (a, one), (b, other) = self.first, self.second
        return (
            f"{a} and {b} cannot be in one hull, their {self.what} differ: {one} and {other}. "
            f"Show them one by one."
        )


@dataclass(frozen=True, kw_only=True)
class HullPoint(Ranked):
    """A valid candidate of one of the runs, with its place in the hull of all of them.

    Parameters
    ----------
    run
        The folder, as it was named.
    cell
        The supercell, such as "1x2x1".
    """

    run: str
    cell: str
    energy_eV_per_fu: float


@dataclass(frozen=True, eq=False)
class Member:
    """One run of a joint hull.

    Parameters
    ----------
    name
        The folder, as it was named.
    rows
        Its valid candidates, by x and energy: of each the evaluation that counts.
    dft_settings
        Of the level, where it is one of DFT.
    """

    name: str
    folder: Path
    run: RunRecord
    level: LevelRecord
    host: Host
    rows: tuple[EvaluationRow, ...]
    dft_settings: Mapping[str, Any] | None = None

    @property
    def cell(self) -> str:
        """The supercell, such as "1x2x1"."""
        return cell_name(self.host)


@dataclass(frozen=True, eq=False)
class JointHull:
    """The points of all runs, by x and energy per formula unit."""

    members: tuple[Member, ...]
    points: tuple[HullPoint, ...]

    @property
    def level(self) -> LevelRecord:
        """The level of theory of all points."""
        return self.members[0].level

    @property
    def host(self) -> Host:
        """The host, in the cell of the first run."""
        return self.members[0].host

    @property
    def x_range(self) -> tuple[float, float]:
        """The neutral range of the host."""
        return _x_range(self.members)

    def missing_ends(self) -> list[float]:
        """Return the ends of the range without a valid energy: there is no hull without them."""
        return list(self._missing_ends)

    @cached_property
    def _missing_ends(self) -> tuple[float, ...]:
        present = [point.x for point in self.points]
        return tuple(end for end in self.x_range if not np.isclose(present, end).any())

    def formation_energy(self, x: float, energy_per_fu: float) -> float:
        """Return an energy against the straight line between the lowest of both ends, in eV/f.u.

        Raises
        ------
        NoEndMemberError
            Where an end of the range has no valid energy.
        """
        x_first, e_first, slope = self._line_between_ends
        return energy_per_fu - e_first - slope * (x - x_first)

    @cached_property
    def _line_between_ends(self) -> tuple[float, float, float]:
        """(x, energy in eV/f.u.) of the first end, and the slope to the last in eV/f.u."""
        ends = self.vertices()
        first, last = ends[0], ends[-1]
        slope = 0.0
        if last.x > first.x:
            slope = (last.energy_eV_per_fu - first.energy_eV_per_fu) / (last.x - first.x)
        return first.x, first.energy_eV_per_fu, slope

    def vertices(self) -> list[HullPoint]:
        """Return the ground states, one for each x, in ascending x.

        Raises
        ------
        NoEndMemberError
            Where an end of the range has no valid energy.
        """
        missing = self.missing_ends()
        if missing:
            raise NoEndMemberError(missing)
        lowest: dict[float, HullPoint] = {}
        for point in self.points:
            if point.on_hull:
                lowest.setdefault(point.x, point)
        return list(lowest.values())


def cell_name(host: Host) -> str:
    """Return the supercell of a host: "1x2x1", or the rows of its matrix."""
    matrix = host.matrix
    if np.array_equal(matrix, np.diag(np.diag(matrix))):
        return "x".join(str(n) for n in np.diag(matrix))
    return " ".join("(" + " ".join(map(str, row)) + ")" for row in matrix.tolist())


def read_member(folder: Path, level: str | None = None) -> Member:
    """Return what one run has found.

    Parameters
    ----------
    level
        The name of a level of theory; the search's own if None.
    """
    with RunFolder(folder).open_store() as store:
        own, settings, rows = _evaluations(store, level)
        run = store.run
    return Member(str(folder), folder, run, own, host_from_json(run.host), rows, settings)


def _evaluations(
    store: PopulationStore, level: str | None
) -> tuple[LevelRecord, Mapping[str, Any] | None, tuple[EvaluationRow, ...]]:
    """Return a level with its valid evaluations: that of the search, or one of DFT."""
    own = store.level
    if level in (None, own.name):
        return own, None, tuple(store.evaluations(verdict="ok"))
    dft = {row.name: row for row in dft_levels(store)}
    if level not in dft:
        found = f"this run has the level {own.name!r} only"
        if dft:
            found = f"this run has the levels {', '.join(map(repr, (own.name, *dft)))}"
        raise UsageError(f"--level {level!r}: {found}.")
    record = LevelRecord(level, dft[level].code, "", (), ranks_only=False)
    rows = tuple(row for row in dft_rows(store, level) if row.verdict == "ok")
    return record, dft[level].settings, rows


def joint_hull(folders: Sequence[Path | str], level: str | None = None) -> JointHull:
    """Return the hull of all valid candidates of some runs.

    The ends of the range are the lowest of all runs there.

    Raises
    ------
    DifferentRunsError
        Where two of them have another host, or another level of theory.
    """
    paths = [Path(folder) for folder in folders]
    _refuse_repeated(paths)
    members = tuple(read_member(path, level) for path in paths)
    for member in members[1:]:
        refuse_other_host((members[0].name, members[0].run), (member.name, member.run))
        refuse_other_level(members[0], member)
    return JointHull(members, _placed(members))


def _refuse_repeated(folders: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for folder in folders:
        first = seen.setdefault(folder.resolve(), folder)
        if first is not folder:
            raise UsageError(f"{folder} is named twice: each run counts once.")


def refuse_other_level(first: Member, other: Member) -> None:
    """Refuse a run at another level of theory, or whose potential has other weights."""
    levels = [(m.level.name, m.level.weights_hash) for m in (first, other)]
    if levels[0] != levels[1]:
        one, two = first.level.name, other.level.name
        if one == two:
            one, two = (f"{m.level.name} ({m.level.weights_hash[:12]})" for m in (first, other))
        raise DifferentRunsError("levels of theory", (first.name, one), (other.name, two))


def refuse_other_host(first: tuple[str, RunRecord], other: tuple[str, RunRecord]) -> None:
    """Refuse a run whose host differs in more than the supercell; each with its name."""
    hosts = [_crystal(run) for _, run in (first, other)]
    if hosts[0] != hosts[1]:
        one, two = (document["name"] for document in hosts)
        if one == two:
            keys = sorted(key for key in hosts[0] if hosts[0][key] != hosts[1].get(key))
            two = f"{two} with another {', '.join(keys)}"
        raise DifferentRunsError("hosts", (first[0], one), (other[0], two))


def _crystal(run: RunRecord) -> dict[str, Any]:
    """Return what declares the host, but for the supercell."""
    document: dict[str, Any] = json.loads(run.host)
    document.pop("supercell", None)
    return document


def _x_range(members: Sequence[Member]) -> tuple[float, float]:
    ranges = [member.host.x_range for member in members]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _placed(members: Sequence[Member]) -> tuple[HullPoint, ...]:
    points = [_unplaced(member, row) for member in members for row in member.rows]
    points.sort(key=lambda point: (point.x, point.energy_eV_per_fu))  # stable: then by run
    x, energy = [p.x for p in points], [p.energy_eV_per_fu for p in points]
    return tuple(
        dataclasses.replace(point, formation_energy_eV_per_fu=formation, above_hull_eV_per_fu=above)
        for point, (formation, above) in zip(
            points, places(x, energy, 1, _x_range(members)), strict=True
        )
    )


def _unplaced(member: Member, row: EvaluationRow) -> HullPoint:
    return HullPoint(
        **known_of(row, member.host),
        run=member.name,
        cell=member.cell,
        energy_eV_per_fu=row.energy / member.run.n_formula_units,
        formation_energy_eV_per_fu=None,
        above_hull_eV_per_fu=None,
    )
