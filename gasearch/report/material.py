"""What a report is about: run folders, open for reading, and the hulls that they make together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from gasearch.analysis.findings import Findings, Status
from gasearch.analysis.joint_hull import (
    HullPoint,
    JointHull,
    cell_name,
    joint_hull,
)
from gasearch.analysis.polymorphs import host_names, refuse_other_chemistry
from gasearch.crystal.declaration import HostError
from gasearch.crystal.decoration import Decoration
from gasearch.crystal.host import Host
from gasearch.learning.folder import LearnFolder, runs_of
from gasearch.relax.relaxed import Relaxed
from gasearch.report.sections import NothingToReportError
from gasearch.run.folder import RunFolder
from gasearch.store.dft_jobs import dft_levels, dft_relaxed
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import Proposal

OF_INTEREST = 2 / 3
ROOM_TEMPERATURE_K = 300.0
_SAME_X = 0.002


@dataclass(frozen=True, eq=False)
class OneRun:
    """A run folder, open for reading.

    Parameters
    ----------
    name
        The folder, as it was named.
    host_name
        What tells its host from the other ones of the report.
    """

    name: str
    folder: RunFolder
    findings: Findings
    status: Status
    host_name: str = ""

    @property
    def store(self) -> PopulationStore:
        """Its database."""
        return self.findings.store

    @property
    def host(self) -> Host:
        """The host in its own cell."""
        return self.findings.host

    @property
    def n_units(self) -> int:
        """Formula units of its cell."""
        return self.findings.run.n_formula_units

    @cached_property
    def cell(self) -> str:
        """The supercell, such as "1x2x1"."""
        return cell_name(self.host)

    @cached_property
    def proposals(self) -> dict[int, Proposal]:
        """All candidates by their number, those from elsewhere included."""
        own = {n.number: n for n in self.store.proposals() if n.number is not None}
        return own | dict(self.store.outside())

    def decoration(self, number: int) -> Decoration:
        """Return the decoration of a candidate in the setting that its relaxation began with."""
        return Decoration.from_fingerprint(self.host, self.store.proposal(number).fingerprint)

    def relaxed(self, number: int, level: str) -> Relaxed:
        """Return the structure of a candidate at a level of theory, the search's or one of DFT."""
        if level == self.findings.level.name:
            return self.store.relaxed(number)
        return dft_relaxed(self.store, number, level)


@dataclass(frozen=True, eq=False)
class Material:
    """What a report is about.

    Parameters
    ----------
    hulls
        One for each level of theory that has results: of the searches first, then of DFT.
    asked_x
        The composition that the user wants to see in detail, or None.
    temperature_K
        At which free energies are shown.
    loops
        Learning loops whose last rounds are among the runs.
    """

    runs: tuple[OneRun, ...]
    hulls: tuple[JointHull, ...]
    asked_x: str | None
    temperature_K: float = ROOM_TEMPERATURE_K
    loops: tuple[LearnFolder, ...] = ()

    @property
    def host(self) -> Host:
        """The host, in the cell of the first run."""
        return self.runs[0].host

    @cached_property
    def hosts(self) -> dict[str, Host]:
        """The hosts by their names, each in the cell of its first run."""
        hosts: dict[str, Host] = {}
        for run in self.runs:
            hosts.setdefault(run.host_name, run.host)
        return hosts

    @cached_property
    def hulls_by_host(self) -> tuple[JointHull, ...]:
        """The same hulls, those of several hosts one by one."""
        return tuple(own for hull in self.hulls for own in hull.by_host)

    @cached_property
    def search_hulls(self) -> tuple[JointHull, ...]:
        """The hulls at the levels of the searches."""
        own = {run.findings.level.name for run in self.runs}
        return tuple(hull for hull in self.hulls if hull.level.name in own)

    @cached_property
    def dft_hulls(self) -> tuple[JointHull, ...]:
        """The hulls at levels of DFT."""
        return tuple(hull for hull in self.hulls if hull not in self.search_hulls)

    def run(self, name: str) -> OneRun:
        """Return the run that a point of a hull names."""
        (found,) = (run for run in self.runs if run.name == name)
        return found

    @cached_property
    def x_of_interest(self) -> float:
        """The composition to look at in detail: the one asked for, else the nearest to 2/3."""
        if self.asked_x is not None:
            return _held(self.runs, self.asked_x)
        low, high = self.hulls[0].x_range if self.hulls else self.host.x_range
        held = sorted({p.x for hull in self.hulls for p in hull.points})
        inside = [x for x in held if low + 1e-9 < x < high - 1e-9] or held or [OF_INTEREST]
        return min(inside, key=lambda x: (abs(x - OF_INTEREST), x))

    def at_x(self, hull: JointHull) -> list[HullPoint]:
        """Return the points of a hull at the composition of interest, lowest first."""
        return [p for p in hull.points if abs(p.x - self.x_of_interest) < _SAME_X]

    def members(self, hull: JointHull) -> list[HullPoint]:
        """Return the ground states of a hull; without a hull, the lowest of each composition."""
        if not hull.missing_ends():
            return hull.vertices()
        lowest: dict[float, HullPoint] = {}
        for point in hull.points:
            lowest.setdefault(point.x, point)
        return list(lowest.values())


@contextmanager
def opened(
    folders: Sequence[Path], x: str | None = None, temperature_K: float = ROOM_TEMPERATURE_K
) -> Iterator[Material]:
    """Open run folders of one host, or of polymorphs, for as long as their report is made.

    Raises
    ------
    DifferentRunsError
        Where two of them differ in composition, or in the settings of their host.
    """
    if not folders:
        raise NothingToReportError
    loops = tuple(LearnFolder(path) for path in folders if LearnFolder(path).is_one)
    with ExitStack() as stack:
        runs = []
        for folder in (own for path in folders for own in runs_of(path)):
            place = RunFolder(folder)
            findings = Findings(stack.enter_context(place.open_store()))
            runs.append(OneRun(str(folder), place, findings, findings.status()))
            first = runs[0]
            refuse_other_chemistry((first.name, first.findings.run), (str(folder), findings.run))
        names = host_names([(run.name, run.findings.run) for run in runs])
        runs = [replace(run, host_name=name) for run, name in zip(runs, names, strict=True)]
        yield Material(tuple(runs), tuple(_hulls(runs)), x, temperature_K, loops)


def _hulls(runs: Sequence[OneRun]) -> Iterator[JointHull]:
    searches: dict[tuple[str, str], list[Path]] = {}
    dft: dict[str, list[Path]] = {}
    for run in runs:
        level = run.findings.level
        searches.setdefault((level.name, level.weights_hash), []).append(run.folder.path)
        for row in dft_levels(run.store):
            dft.setdefault(row.name, []).append(run.folder.path)
    for folders in searches.values():
        yield joint_hull(folders)
    for name, folders in dft.items():
        hull = joint_hull(folders, name)
        if hull.points:
            yield hull


def _held(runs: Sequence[OneRun], x: str) -> float:
    """Return the composition of any of the runs' cells at an x; refuse one that none holds."""
    problem: HostError | None = None
    for run in runs:
        try:
            return run.host.composition_at(x).x
        except HostError as error:
            problem = problem or error
    raise problem if problem is not None else NothingToReportError()


def same_x(first: float, second: float) -> bool:
    """Return whether two filled shares are the same."""
    return bool(np.isclose(first, second, atol=1e-9))


def key_of(run: str, number: int, level: str) -> str:
    """Return how the structure of a candidate at a level is named in a report."""
    return f"{run} {number} {level}"
