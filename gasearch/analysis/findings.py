"""What a run has found, read from its database alone: status, best candidates, failures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gasearch.analysis.hull import ON_HULL, Place, places
from gasearch.analysis.outcomes import one_outcome
from gasearch.crystal.host import Composition, Host
from gasearch.crystal.io.hosts import host_from_json
from gasearch.errors import GasearchError, UsageError
from gasearch.relax.audit import Verdict
from gasearch.run.folder import RunFolder
from gasearch.store.opening import driver_of
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import Counts, EvaluationRow, RunRecord
from gasearch.store.sql.events import ENDED, STARTED

HELD_FROM = 5e-4
"""eV per cell: what is left of a hold above it counts as force."""


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


def blind_line(change_eV: float | None) -> str:
    """Return what it means that the potential of a search tells no oxidation states apart."""
    change = "" if change_eV is None else f" by {1000 * change_eV:.2g} meV only"
    return (
        f"charge-blind: where two sites swap oxidation states, this potential's energy changes"
        f"{change}, so charge orders were not told apart; only the order of the working ions was"
    )


def blind_lines(run: RunRecord) -> list[str]:
    """Return the line of a charge-blind run, and nothing of any other."""
    return [blind_line(run.charge_awareness)] if run.is_charge_blind else []


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
    reason
        Why its verdict is not ok; "" where it is.
    penalty_eV
        What is left of a hold, per cell, contained in the energy.
    sigma_eV_per_fu, force_sigma_eV_per_A
        How certain the potential is of the energy, and of the forces: standard deviations; None
        where it does not know.
    same_as
        A lower candidate of another charge order that relaxed into the same crystal, so that both
        are one outcome; None where there is none, or where it was not looked for.
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
    reason: str = ""
    penalty_eV: float = 0.0
    sigma_eV_per_fu: float | None = None
    force_sigma_eV_per_A: float | None = None
    same_as: int | None = None

    @property
    def exists_only_while_held(self) -> bool:
        """Whether a hold still pushes at the end: without it this would relax elsewhere."""
        return self.penalty_eV >= HELD_FROM

    @property
    def on_hull(self) -> bool:
        """Whether it is a ground state of what was searched."""
        return self.above_hull_eV_per_fu is not None and self.above_hull_eV_per_fu <= ON_HULL


def known_of(row: EvaluationRow, host: Host) -> dict[str, Any]:
    """Return what an evaluation says of its candidate, by the names of `Ranked`."""
    return {
        "id": row.candidate,
        "x": row.x,
        "energy_eV": row.energy,
        "fingerprint": row.fingerprint,
        "orbit_size": row.orbit_size,
        "verdict": row.verdict,
        "formula": formula_of(host, row.candidate, row.composition),
        "operator": row.operator,
        "reason": row.reason,
        "penalty_eV": row.penalty,
        "sigma_eV_per_fu": _known(row.energy_sigma / host.n_formula_units),
        "force_sigma_eV_per_A": _known(row.force_sigma),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


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
class Status:
    """Where a search stands.

    Parameters
    ----------
    ending
        Why the last run of the search ended; None if it runs, or was killed or crashed.
    running
        The process that drives the search now, in words.
    """

    counts: Counts
    by_composition: tuple[CompositionStatus, ...]
    done: bool
    ending: str | None
    running: str | None


class Findings:
    """A run's host and results. The store stays the caller's to close."""

    def __init__(self, store: PopulationStore) -> None:
        self.store = store
        self.run = store.run
        self.host: Host = host_from_json(self.run.host)
        self.level = store.level

    def status(self) -> Status:
        """Return the state of the search."""
        running, ending = driver_of(self.store.place), self.ending()
        done = ending not in (None, "stopped") and running is None
        by_composition = self._by_composition(self.searched())
        return Status(self.store.counts(), by_composition, done, ending, running)

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
            total = self.host.n_distinct_beyond(composition, row.candidates if row else 0)
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
        valid = [row for row in rows if row.verdict == "ok"]
        found = self._formation([row.x for row in valid], [row.energy for row in valid])
        by_candidate = {row.candidate: place for row, place in zip(valid, found, strict=True)}
        none: Place = (None, None)
        candidates = []
        for row in rows:
            formation, above = by_candidate.get(row.candidate, none)
            candidates.append(
                Ranked(
                    **known_of(row, self.host),
                    formation_energy_eV_per_fu=formation,
                    above_hull_eV_per_fu=above,
                )
            )
        return candidates

    def _formation(self, x: Sequence[float], energy_eV: Sequence[float]) -> list[Place]:
        return places(x, energy_eV, self.run.n_formula_units, self.host.x_range)

    def failures(self) -> list[tuple[int, str]]:
        """Return the candidates that failed, with the reasons."""
        rows = self.store.evaluations(verdict="failed")
        return sorted((row.candidate, row.reason) for row in rows)

    def missing_ends(self) -> list[float]:
        """Return the ends of the range without a valid energy: there is no hull without them."""
        present = [row.x for row in self.store.by_composition() if row.best is not None]
        return [end for end in self.host.x_range if not np.isclose(present, end).any()]

    def best(
        self,
        x: float | str | None,
        number: int,
        *,
        compare: bool = True,
        verdict: Verdict | None = "ok",
    ) -> list[Ranked]:
        """Return the lowest candidates of a composition, or the nearest to the hull of all.

        Parameters
        ----------
        compare
            Whether to read their structures and mark those that are the same as a lower one.
        verdict
            Only candidates that have it; None for all: those without an energy come last.
        """
        rows = self.ranked(verdict)
        if x is not None:
            wanted = self.host.composition_at(x)
            rows = [row for row in rows if row.formula == wanted.formula]
            rows = sorted(rows, key=_height)[:number]
        else:
            rows = sorted(rows, key=_nearness)[:number]
        return self._with_outcomes(rows) if compare else rows

    def _with_outcomes(self, rows: Sequence[Ranked]) -> list[Ranked]:
        """Return the same rows, those marked that relaxed into what a lower one of them did."""
        by_formula: dict[str, dict[int, float]] = {}
        for row in rows:
            by_formula.setdefault(row.formula, {})[row.id] = row.energy_eV
        same: dict[int, int] = {}
        for energies in by_formula.values():
            same |= one_outcome(self.host, self.store, energies)
        return [replace(row, same_as=same.get(row.id)) for row in rows]

    def lowest(self, per_composition: int) -> list[Ranked]:
        """Return so many of the lowest candidates of each composition, by x and energy."""
        seen = Counter[str]()
        rows = []
        for row in self.ranked():
            seen[row.formula] += 1
            if seen[row.formula] <= per_composition:
                rows.append(row)
        return rows

    def chosen(self, ids: Sequence[int] | None) -> list[Ranked]:
        """Return candidates by number, or those nearest to the hull."""
        if not ids:
            return self.best(None, 10)
        rows = {row.id: row for row in self.ranked(verdict=None) if row.verdict != "failed"}
        missing = [str(number) for number in ids if number not in rows]
        if missing:
            raise UsageError(f"no relaxed candidate {', '.join(missing)} in this run.")
        return [rows[number] for number in ids]


@contextmanager
def read_run(folder: Path | str) -> Iterator[Findings]:
    """Open the database of a run that was started, to read it: `with read_run("my-run") as run:`.

    A search may go on meanwhile, in another process: each call sees what is committed by then.

    Raises
    ------
    NoRunError
        Where the folder holds no run, or one that was not started yet.
    """
    with RunFolder(Path(folder)).open_store() as store:
        yield Findings(store)


def _nearness(row: Ranked) -> tuple[float, ...]:
    above = row.above_hull_eV_per_fu
    return (float("inf") if above is None else above, row.x, *_height(row))


def _height(row: Ranked) -> tuple[float, int]:
    """Return what candidates of one composition are sorted by, those without an energy last."""
    return (row.energy_eV if math.isfinite(row.energy_eV) else float("inf"), row.id)
