"""What a run has found, read from its database alone: status, best candidates, hull."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gasearch.errors import UsageError
from gasearch.host import Composition, Host
from gasearch.host_files import host_from_json
from gasearch.hull import ON_HULL, NoEndMemberError, formation_hull
from gasearch.relax.relaxed import Verdict
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import Counts, EvaluationRow


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
class CompositionStatus:
    """How far the search is at one composition.

    Parameters
    ----------
    searched
        Distinct decorations that were proposed.
    total
        Distinct decorations that there are.
    best_energy_eV
        Of the whole cell; None where none is valid.
    """

    x: float
    formula: str
    searched: int
    total: int
    relaxed: int
    failed: int
    best: int | None
    best_energy_eV: float | None


@dataclass(frozen=True)
class Status:
    """Where a search stands."""

    counts: Counts
    by_composition: tuple[CompositionStatus, ...]
    done: bool
    ending: str | None


class Findings:
    """A run's host and results. The store stays the caller's to close."""

    def __init__(self, store: PopulationStore) -> None:
        self.store = store
        self.run = store.run
        self.host: Host = host_from_json(self.run.host)
        self.level = store.level

    def status(self) -> Status:
        """Return the state of the search."""
        rows = {row.composition: row for row in self.store.by_composition()}
        by_composition = []
        for composition in self.searched():
            row = rows.get(composition.formula)
            by_composition.append(
                CompositionStatus(
                    x=composition.x,
                    formula=composition.formula,
                    searched=row.candidates if row else 0,
                    total=self.host.n_distinct(composition),
                    relaxed=row.relaxed if row else 0,
                    failed=row.failed if row else 0,
                    best=row.best if row else None,
                    best_energy_eV=row.best_energy if row and row.best else None,
                )
            )
        ending = self._ending()
        done = ending is not None and ending != "stopped"
        return Status(self.store.counts(), tuple(by_composition), done, ending)

    def searched(self) -> tuple[Composition, ...]:
        """Return the compositions that the run searches, its two ends included."""
        wanted = self.run.settings["search.x"]
        if not isinstance(wanted, list):
            return self.host.compositions
        chosen = {self.host.composition_at(x) for x in wanted if isinstance(x, str | float | int)}
        return tuple(sorted({*chosen, self.host.compositions[0], self.host.compositions[-1]}))

    def _ending(self) -> str | None:
        """Return why the last run of the search ended; None if it runs, or was killed."""
        started = self.store.events(kind="started")
        ended = self.store.events(kind="ended", after=started[-1].number if started else 0)
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
                formula=row.composition,
                operator=row.operator,
            )
            for row, (formation, above) in zip(rows, places, strict=True)
        ]

    def _places(
        self, rows: Sequence[EvaluationRow]
    ) -> list[tuple[float, float] | tuple[None, None]]:
        valid = [row for row in rows if row.verdict == "ok"]
        try:
            hull = formation_hull(
                [row.x for row in valid],
                [row.energy for row in valid],
                self.run.n_formula_units,
                self.host.x_range,
            )
        except NoEndMemberError:
            return [(None, None)] * len(rows)
        found = {
            row.candidate: (float(formation), float(above))
            for row, formation, above in zip(
                valid, hull.formation_energy_per_fu, hull.above_hull_per_fu, strict=True
            )
        }
        return [found.get(row.candidate, (None, None)) for row in rows]

    def best(self, x: float | str | None, number: int) -> list[Ranked]:
        """Return the lowest candidates of a composition, or the nearest to the hull of all."""
        rows = self.ranked()
        if x is not None:
            wanted = self.host.composition_at(x)
            rows = [row for row in rows if row.formula == wanted.formula]
            return sorted(rows, key=lambda row: (row.energy_eV, row.id))[:number]
        return sorted(rows, key=_nearness)[:number]

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


def _nearness(row: Ranked) -> tuple[float, float, float]:
    above = row.above_hull_eV_per_fu
    return (float("inf") if above is None else above, row.x, row.energy_eV)
