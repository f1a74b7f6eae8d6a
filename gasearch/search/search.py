"""The search loop: propose, relax, record, until the budget or the decorations are used up.

Steady state: whenever a relaxation ends, its result is committed and the free place is filled by
the next proposal. What to propose is decided in `proposer`, what a proposal may know in
`visibility`; nothing but the database is needed to resume.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from gasearch.execution.contract import Slow
from gasearch.search.dispatcher import Dispatcher
from gasearch.search.near_hull import near_hull
from gasearch.search.proposer import Proposer
from gasearch.search.replay import restore
from gasearch.search.visibility import Visibility
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import JsonValue, Outcome, Proposal
from gasearch.store.sql.events import REFINED, SURROGATE

Ending = Literal["budget", "stagnation", "exhausted", "stopped"]


@dataclass(frozen=True)
class SearchLimits:
    """How much a search does.

    Parameters
    ----------
    budget
        Candidates at the most.
    in_flight
        Candidates that are relaxed at once.
    stagnation
        Results without a lower minimum in any niche after which the search ends; 0: never.
    tight_window_per_fu
        Height above the hull, in eV/f.u., up to which candidates are relaxed again, tightly.
    """

    budget: int
    in_flight: int
    stagnation: int
    tight_window_per_fu: float


class Search:
    """One driver of one search. Whoever makes it holds the driver lock.

    It ends early, keeping what is committed, once the dispatcher is stopped.

    Parameters
    ----------
    observe
        Called with the results of each commit.
    """

    def __init__(
        self,
        store: PopulationStore,
        proposer: Proposer,
        visibility: Visibility,
        dispatcher: Dispatcher,
        limits: SearchLimits,
        observe: Callable[[Sequence[Outcome]], None] = lambda outcomes: None,  # noqa: ARG005
    ) -> None:
        self._store = store
        self._proposer = proposer
        self._visibility = visibility
        self._dispatcher = dispatcher
        self._limits = limits
        self._observe = observe
        self._n_candidates = 0
        self._reported_fit = 0

    def run(self) -> Ending:
        """Search to an end, then relax again, more tightly, what lies near the hull."""
        self._resume()
        try:
            ending = self._steady_state()
            if ending != "stopped":
                members: list[JsonValue] = [*self._proposer.hull_refinement.report()]
                self._dispatcher.record_event(REFINED, {"members": members})
            while not self._dispatcher.is_stopped and self._queue_tight():
                self._finish_waiting()
            return "stopped" if self._dispatcher.is_stopped else ending
        finally:
            self._dispatcher.give_up()

    def _resume(self) -> None:
        """Restore the state from the database, which may be new."""
        self._dispatcher.resume()
        proposals, outcomes = self._store.proposals(), self._store.outcomes()
        restore(self._proposer, self._visibility, proposals, outcomes)
        self._n_candidates = len(proposals)

    def _steady_state(self) -> Ending:
        while not self._dispatcher.is_stopped:
            proposals, ending = self._propose()
            self._dispatcher.hand_out(proposals, self._surrogate_events())
            if ending and not self._dispatcher.n_busy:
                return ending
            self._record()
        return "stopped"

    def _propose(self) -> tuple[list[Proposal], Ending | None]:
        """Return proposals for the free places, and why there are no more to come, if so."""
        proposals: list[Proposal] = []
        while True:
            number = self._n_candidates + 1
            if number > self._limits.budget:
                return proposals, "budget"
            is_full = self._dispatcher.n_busy + len(proposals) >= self._limits.in_flight
            if is_full or not self._visibility.is_ready(number):
                return proposals, None
            for outcome in self._visibility.release(number):
                self._proposer.add_outcome(outcome)
            is_stagnant = self._proposer.is_stagnant(self._limits.stagnation)
            draw = self._proposer.propose_neighbour if is_stagnant else self._proposer.propose
            proposal = draw(number, self._limits.budget)
            if proposal is None:
                return proposals, "stagnation" if is_stagnant else "exhausted"
            proposals.append(proposal)
            self._n_candidates = number

    def _surrogate_events(self) -> list[tuple[str, dict[str, JsonValue]]]:
        """Return the errors of the newest fit of the surrogate, as an event once for each fit."""
        fit = self._proposer.schedule.last_fit
        if fit is None or fit[0] == self._reported_fit:
            return []
        self._reported_fit = fit[0]
        validation = fit[1].validation
        if not validation.n_results:
            return []
        data: dict[str, JsonValue] = {
            "candidate": self._n_candidates,
            "n_results": fit[0],
            "error_eV_per_fu": validation.error_per_fu,
            "mean_error_eV_per_fu": validation.mean_error_per_fu,
            "used": validation.is_useful,
        }
        return [(SURROGATE, data)]

    def _record(self) -> None:
        """Wait for results and commit them; only then do they count."""
        events = self._dispatcher.collect()
        for event in events:
            if isinstance(event, Slow) and event.task.lease.purpose == "search":
                self._visibility.mark_long(event.task.lease.candidate)
        outcomes = self._dispatcher.record(events)
        for outcome in outcomes:
            self._visibility.add(outcome)
        self._observe(outcomes)

    def _queue_tight(self) -> bool:
        """Queue what is near the hull and was not relaxed tightly yet; return whether any is."""
        candidates = near_hull(
            self._store, self._proposer.history.host.x_range, self._limits.tight_window_per_fu
        )
        if candidates:
            self._dispatcher.queue_tight(candidates)
        return bool(candidates)

    def _finish_waiting(self) -> None:
        while self._dispatcher.n_busy and not self._dispatcher.is_stopped:
            self._dispatcher.hand_out()
            self._record()
