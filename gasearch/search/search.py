"""The method: propose, relax, record, until the budget, the niches or the decorations are used up.

Steady state: whenever a relaxation ends, its result is committed and the free place is filled by
the next proposal. What to propose is decided in `proposer`, what a proposal may know in
`visibility`; nothing but the database is needed to resume.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Literal

from gasearch.crystal.host import Host
from gasearch.execution.contract import Slow
from gasearch.search.dispatcher import Dispatcher
from gasearch.search.near_hull import near_hull
from gasearch.search.proposer import Proposer
from gasearch.search.replay import restore
from gasearch.search.visibility import Visibility
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import JsonValue, Outcome, Proposal

Ending = Literal["budget", "stagnation", "exhausted", "stopped"]


class Search:
    """One driver of one search. Whoever makes it holds the driver lock.

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
    observe
        Called with the results of each commit.
    stop
        Once set, the search gives up what is under way, keeps what is committed, and ends.
    """

    def __init__(
        self,
        host: Host,
        store: PopulationStore,
        proposer: Proposer,
        visibility: Visibility,
        dispatcher: Dispatcher,
        *,
        budget: int,
        in_flight: int,
        stagnation: int,
        tight_window_per_fu: float,
        observe: Callable[[Sequence[Outcome]], None],
        stop: threading.Event,
    ) -> None:
        self._host = host
        self._store = store
        self._proposer = proposer
        self._visibility = visibility
        self._dispatcher = dispatcher
        self._budget = budget
        self._in_flight = in_flight
        self._stagnation = stagnation
        self._tight_window_per_fu = tight_window_per_fu
        self._observe = observe
        self._stop = stop
        self._n_candidates = 0
        self._told_fit = 0

    def run(self) -> Ending:
        """Search to an end, then relax again, more tightly, what lies near the hull."""
        self._resume()
        try:
            ending = self._steady_state()
            if ending != "stopped":
                members: list[JsonValue] = [*self._proposer.hull_refinement.report()]
                self._dispatcher.tell("refined", {"members": members})
            while not self._stop.is_set() and self._tighten():
                self._finish_waiting()
            return "stopped" if self._stop.is_set() else ending
        finally:
            self._dispatcher.give_up()

    def _resume(self) -> None:
        """Recall everything from the database; with a new one, there is nothing to recall."""
        self._dispatcher.resume()
        proposals, outcomes = self._store.proposals(), self._store.outcomes()
        restore(self._proposer, self._visibility, proposals, outcomes)
        self._n_candidates = len(proposals)

    def _steady_state(self) -> Ending:
        while not self._stop.is_set():
            proposals, ending = self._propose()
            self._dispatcher.hand_out(proposals, self._news())
            if ending and not self._dispatcher.n_busy:
                return ending
            self._record()
        return "stopped"

    def _propose(self) -> tuple[list[Proposal], Ending | None]:
        """Return proposals for the free places, and why there are no more to come, if so."""
        proposals: list[Proposal] = []
        while True:
            number = self._n_candidates + 1
            if number > self._budget:
                return proposals, "budget"
            is_full = self._dispatcher.n_busy + len(proposals) >= self._in_flight
            if is_full or not self._visibility.is_ready(number):
                return proposals, None
            for outcome in self._visibility.release(number):
                self._proposer.add_outcome(outcome)
            is_stagnant = self._proposer.is_stagnant(self._stagnation)
            draw = self._proposer.propose_neighbour if is_stagnant else self._proposer.propose
            proposed = draw(number, self._budget)
            if proposed is None:
                return proposals, "stagnation" if is_stagnant else "exhausted"
            proposals.append(proposed.as_record(self._visibility.known))
            self._n_candidates = number

    def _news(self) -> list[tuple[str, dict[str, JsonValue]]]:
        """Return what the newest fit of the surrogate is worth, once for each."""
        fit = self._proposer.schedule.last_fit
        if fit is None or fit[0] == self._told_fit:
            return []
        self._told_fit = fit[0]
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
        return [("surrogate", data)]

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

    def _tighten(self) -> bool:
        """Queue what is near the hull and was not relaxed tightly yet; return whether any is."""
        candidates = near_hull(self._store, self._host.x_range, self._tight_window_per_fu)
        if candidates:
            self._dispatcher.queue_tight(candidates)
        return bool(candidates)

    def _finish_waiting(self) -> None:
        while self._dispatcher.n_busy and not self._stop.is_set():
            self._dispatcher.hand_out()
            self._record()
