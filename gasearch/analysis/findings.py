"""What a run has found, read from its database alone: status, best candidates, hull."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gasearch.analysis.hull import ON_HULL, NoEndMemberError, formation_hull
from gasearch.crystal.host import Composition, Host
from gasearch.crystal.io.hosts import host_from_json
from gasearch.errors import GasearchError, UsageError
from gasearch.execution.engine_file import EngineRecord, read_engine_file
from gasearch.relax.audit import Verdict
from gasearch.store.activity import Activity, activity
from gasearch.store.opening import driver_of
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import Counts, EvaluationRow
from gasearch.store.sql.events import ENDED, REFINED, STARTED, SURROGATE

T = TypeVar("T", "SurrogateStatus", "RefinedMember")


class UnknownFormulaError(GasearchError, ValueError):
    """A candidate whose formula, as the database has it, no decoration of the host has."""

    def __init__(self, candidate: int, formula: str) -> None:
        super().__init__(candidate, formula)
        self.candidate = candidate
        self.formula = formula

    def __str__(self) -> str:
        return (
            f"candidate {self.candidate} has the composition {self.formula!r} in this database, "
            "which no decoration of its host has: the database is damaged; see: gasearch check"
        )


def formula_of(host: Host, candidate: int, stored: str) -> str:
    """Return the formula of a candidate, as the host writes it, never another text."""
    for composition in host.compositions:
        if composition.formula == stored:
            return composition.formula
    raise UnknownFormulaError(candidate, stored)


@dataclass(frozen=True)
class Ranked:
    """A candidate with its place on the energy axis.

    Parameters
    ----------
    energy_eV
        Of the whole cell.
    formation_energy_eV_per_fu, above_hull_eV_per_fu
        None until both ends of the range have a valid energy.
    """

    id: int
    x: float
    energy_eV: float
    formation_energy_eV_per_fu: float | None
    above_hull_eV_per_fu: float | None
    fingerprint: str
    orbit_size: int
    verdict: Verdict
    formula: str
    operator: str

    @property
    def on_hull(self) -> bool:
        """Whether it is a ground state of what was searched."""
        return self.above_hull_eV_per_fu is not None and self.above_hull_eV_per_fu <= ON_HULL


@dataclass(frozen=True)
class NotValid:
    """A candidate that was relaxed and cannot count."""

    id: int
    verdict: Verdict


@dataclass(frozen=True)
class CompositionStatus:
    """How far the search is at one composition.

    Parameters
    ----------
    searched
        Distinct decorations that were proposed.
    total
        Distinct decorations that there are.
    best
        The valid candidate of lowest energy; None where there is none.
    best_energy_eV
        Of the whole cell.
    best_formation_energy_eV_per_fu
        None until both ends of the range have a valid energy.
    valid
        Candidates whose search relaxation, from the standard start, ended with verdict "ok".
    open
        Distinct decorations that were not proposed, or whose search relaxation did not end yet.
    not_valid
        Candidates whose search relaxation ended with another verdict.
    """

    x: float
    formula: str
    searched: int
    total: int
    relaxed: int
    failed: int
    best: int | None
    best_energy_eV: float | None
    best_formation_energy_eV_per_fu: float | None
    valid: int
    open: int
    not_valid: tuple[NotValid, ...]

    @property
    def proven(self) -> bool:
        """Whether nothing is open: `best` then is the lowest among the `valid` ones."""
        return self.open == 0


@dataclass(frozen=True)
class SurrogateStatus:
    """How well the surrogate predicts what it was not fitted to, when it was last fitted.

    Parameters
    ----------
    candidate
        For which it was fitted.
    error_eV_per_fu, mean_error_eV_per_fu
        Cross-validated root mean squares: of the surrogate, and of the mean of each composition;
        None where there is too little to tell.
    used
        Whether the search goes by it.
    """

    candidate: int
    n_results: int
    error_eV_per_fu: float | None
    mean_error_eV_per_fu: float | None
    used: bool


@dataclass(frozen=True)
class RefinedMember:
    """What became of the neighbours of a hull member under single exchanges.

    Parameters
    ----------
    neighbours
        Distinct decorations that one exchange leads to.
    evaluated, screened_out, open
        Their parts: relaxed, predicted to lie well above the member, and neither.
    nearest_margin_eV_per_fu, nearest_margin_sigmas
        How far above the member the surrogate puts the nearest of those that are screened out, and
        that distance in standard deviations; None where none is.
    """

    candidate: int
    x: float
    neighbours: int
    evaluated: int
    screened_out: int
    open: int
    nearest_margin_eV_per_fu: float | None
    nearest_margin_sigmas: float | None


@dataclass(frozen=True)
class RefinedStatus:
    """The last look around the hull members."""

    members: tuple[RefinedMember, ...]


@dataclass(frozen=True)
class Status:
    """Where a search stands.

    Parameters
    ----------
    ending
        Why the last run of the search ended; None if it runs, or ended without a word.
    running
        The process that drives the search now, in words.
    surrogate, refined
        None where the search has not said anything about them.
    activity
        How it proceeds.
    engine
        What runs its relaxations, as its driver wrote it last; None where there is none.
    """

    counts: Counts
    by_composition: tuple[CompositionStatus, ...]
    done: bool
    ending: str | None
    running: str | None
    surrogate: SurrogateStatus | None = None
    refined: RefinedStatus | None = None
    activity: Activity | None = None
    engine: EngineRecord | None = None


class Findings:
    """A run's host and results. The store stays the caller's to close."""

    def __init__(self, store: PopulationStore) -> None:
        self.store = store
        self.run = store.run
        self.host: Host = host_from_json(self.run.host)
        self.level = store.level

    def status(self, folder: Path | None = None) -> Status:
        """Return the state of the search.

        Parameters
        ----------
        folder
            The run folder, where the driver tells of its workers.
        """
        running = driver_of(self.store.place)
        ending = self.ending()
        done = ending not in (None, "stopped") and running is None
        return Status(
            self.store.counts(),
            self._by_composition(self.searched()),
            done,
            ending,
            running,
            self._surrogate(),
            self._refined(),
            activity(self.store, running is not None),
            None if folder is None else read_engine_file(folder),
        )

    def _surrogate(self) -> SurrogateStatus | None:
        event = self.store.newest_event(SURROGATE)
        return None if event is None else _from_event(SurrogateStatus, event.data)

    def _refined(self) -> RefinedStatus | None:
        event = self.store.newest_event(REFINED)
        if event is None:
            return None
        members: Any = event.data["members"]
        return RefinedStatus(tuple(_from_event(RefinedMember, member) for member in members))

    def composition(self, x: float | str) -> CompositionStatus:
        """Return how far the search is at one composition, whether or not it is searched."""
        (found,) = self._by_composition([self.host.composition_at(x)])
        return found

    def _by_composition(self, compositions: Iterable[Composition]) -> tuple[CompositionStatus, ...]:
        rows = {row.composition: row for row in self.store.by_composition()}
        lowest = [row for row in rows.values() if row.best is not None]
        formation = self._formation([row.x for row in lowest], [row.best_energy for row in lowest])
        energies = {row.composition: e for row, (e, _) in zip(lowest, formation, strict=True)}
        found = []
        for composition in compositions:
            row = rows.get(composition.formula)
            total = self.host.n_distinct(composition)
            not_valid = row.not_valid if row else ()
            valid = row.valid if row else 0
            status = CompositionStatus(
                x=composition.x,
                formula=composition.formula,
                searched=row.candidates if row else 0,
                total=total,
                relaxed=row.relaxed if row else 0,
                failed=row.failed if row else 0,
                best=row.best if row else None,
                best_energy_eV=row.best_energy if row and row.best is not None else None,
                best_formation_energy_eV_per_fu=energies.get(composition.formula),
                valid=valid,
                open=total - valid - len(not_valid),
                not_valid=tuple(NotValid(number, verdict) for number, verdict in not_valid),
            )
            found.append(status)
        return tuple(found)

    def searched(self) -> tuple[Composition, ...]:
        """Return the compositions that the run searches, its two ends included."""
        wanted = self.run.settings["search.x"]
        if not isinstance(wanted, list):
            return self.host.compositions
        chosen = {self.host.composition_at(x) for x in wanted if isinstance(x, str | float | int)}
        return tuple(sorted({*chosen, self.host.compositions[0], self.host.compositions[-1]}))

    def ending(self) -> str | None:
        """Return why the last run of the search ended; None if it runs, or was killed."""
        started = self.store.events(kind=STARTED)
        ended = self.store.events(kind=ENDED, after=started[-1].number if started else 0)
        return str(ended[-1].data["ending"]) if ended else None

    def ranked(self, verdict: Verdict | None = "ok") -> list[Ranked]:
        """Return relaxed candidates by x and energy; only those with verdict ok shape the hull."""
        rows = self.store.evaluations(verdict=verdict)
        places = self._places(rows)
        return [
            Ranked(
                id=row.candidate,
                x=row.x,
                energy_eV=row.energy,
                formation_energy_eV_per_fu=formation,
                above_hull_eV_per_fu=above,
                fingerprint=row.fingerprint,
                orbit_size=row.orbit_size,
                verdict=row.verdict,
                formula=formula_of(self.host, row.candidate, row.composition),
                operator=row.operator,
            )
            for row, (formation, above) in zip(rows, places, strict=True)
        ]

    def _places(
        self, rows: Sequence[EvaluationRow]
    ) -> list[tuple[float, float] | tuple[None, None]]:
        valid = [row for row in rows if row.verdict == "ok"]
        energies = self._formation([row.x for row in valid], [row.energy for row in valid])
        found = {row.candidate: place for row, place in zip(valid, energies, strict=True)}
        return [found.get(row.candidate, (None, None)) for row in rows]

    def _formation(
        self, x: Sequence[float], energy_eV: Sequence[float]
    ) -> list[tuple[float, float] | tuple[None, None]]:
        """Return formation energies and heights above the hull, in eV/f.u., where there are any."""
        try:
            hull = formation_hull(x, energy_eV, self.run.n_formula_units, self.host.x_range)
        except NoEndMemberError:
            return [(None, None)] * len(x)
        formation, above = hull.formation_energy_per_fu.tolist(), hull.above_hull_per_fu.tolist()
        return list(zip(formation, above, strict=True))

    def failures(self) -> list[tuple[int, str]]:
        """Return the candidates that failed, with the reasons."""
        rows = self.store.evaluations(verdict="failed")
        return sorted((row.candidate, row.reason) for row in rows)

    def missing_ends(self) -> list[float]:
        """Return the ends of the range without a valid energy: there is no hull without them."""
        present = [row.x for row in self.store.by_composition() if row.best is not None]
        return [end for end in self.host.x_range if not np.isclose(present, end).any()]

    def best(self, x: float | str | None, number: int) -> list[Ranked]:
        """Return the lowest candidates of a composition, or the nearest to the hull of all."""
        rows = self.ranked()
        if x is not None:
            wanted = self.host.composition_at(x)
            rows = [row for row in rows if row.formula == wanted.formula]
            return sorted(rows, key=lambda row: (row.energy_eV, row.id))[:number]
        return sorted(rows, key=_nearness)[:number]

    def lowest(self, per_composition: int) -> list[Ranked]:
        """Return so many of the lowest candidates of each composition, by x and energy."""
        seen = Counter[str]()
        rows = []
        for row in self.ranked():
            seen[row.formula] += 1
            if seen[row.formula] <= per_composition:
                rows.append(row)
        return rows

    def hull(self, level: str | None = None) -> list[Ranked]:
        """Return all valid candidates at one level of theory, by x and energy.

        Parameters
        ----------
        level
            Its name; the search's own if None.
        """
        if level not in (None, self.level.name):
            raise UsageError(f"--level {level!r}: this run has the level {self.level.name!r} only.")
        return self.ranked()

    def chosen(self, ids: Sequence[int] | None) -> list[Ranked]:
        """Return candidates by number, or those nearest to the hull."""
        if not ids:
            return self.best(None, 10)
        rows = {row.id: row for row in self.ranked(verdict=None) if row.verdict != "failed"}
        missing = [str(number) for number in ids if number not in rows]
        if missing:
            raise UsageError(f"no relaxed candidate {', '.join(missing)} in this run.")
        return [rows[number] for number in ids]


def _from_event(kind: type[T], data: Mapping[str, Any]) -> T:
    """Return the part of an event that a dataclass names; newer versions may say more."""
    return kind(**{field.name: data[field.name] for field in fields(kind)})


def _nearness(row: Ranked) -> tuple[float, float, float]:
    above = row.above_hull_eV_per_fu
    return (float("inf") if above is None else above, row.x, row.energy_eV)
