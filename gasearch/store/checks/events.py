"""Rebuilding the state of a search from its events alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from gasearch.store.records import Proposal, of_older
from gasearch.store.schema import SEARCH_LEVEL
from gasearch.store.sql import events as kinds
from gasearch.store.sql.evaluation_state import Key

# What older events lack, as the upgrade fills it in.
_OLDER = of_older(Proposal)


@dataclass
class Replayed:
    """An evaluation as it follows from the events; the columns of the same names must agree."""

    state: str = "queued"
    attempt: int = 0
    n_crashes: int = 0
    verdict: str | None = None
    energy: float | None = None
    result: int | None = None
    n_calls: int | None = None
    lease_ends: float | None = None
    finished: float | None = None


@dataclass
class Replay:
    """The state that follows from the events, and events that no search writes."""

    run: dict[str, Any] = field(default_factory=dict)
    level: dict[str, Any] = field(default_factory=dict)
    operational: dict[str, Any] = field(default_factory=dict)
    candidates: dict[int, dict[str, Any]] = field(default_factory=dict)
    evaluations: dict[Key, Replayed] = field(default_factory=dict)
    dft: dict[tuple[int, int], Replayed] = field(default_factory=dict)  # by candidate and level
    extras: dict[int, dict[str, Any]] = field(default_factory=dict)  # by their key
    promotions: dict[tuple[int, str], tuple[str, float]] = field(default_factory=dict)
    levels: dict[str, dict[str, Any]] = field(default_factory=dict)  # of DFT, by name
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)  # of DFT, by folder
    stated: dict[Key, str] = field(default_factory=dict)  # sha256 of results, see `blobs.stated`
    dft_stated: dict[tuple[int, int], str] = field(default_factory=dict)
    sealed: dict[str, dict[str, str]] = field(default_factory=dict)  # of older ones, by their keys
    n_results: int = 0
    time_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    def apply(self, event: Row[Any]) -> None:
        """Go on by one event."""
        handler = _HANDLERS.get(event.kind)
        if handler is None:
            return
        self.time_s = event.time
        try:
            handler(self, event.candidate, json.loads(event.data))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self.faults.append(f"event {event.id} ({event.kind}) cannot be followed: {error!r}")

    def _created(self, _: int | None, data: Mapping[str, Any]) -> None:
        self.run, self.level = dict(data["run"]), dict(data["level"])
        self.operational = dict(json.loads(self.run.pop("operational")))
        self.run["created"] = self.time_s

    def _operational(self, _: int | None, data: Mapping[str, Any]) -> None:
        self.operational |= data

    def _proposed(self, candidate: int, data: Mapping[str, Any]) -> None:
        self._added(candidate, data)
        self.evaluations[candidate, "search"] = Replayed()

    def _outside(self, _: int | None, data: Mapping[str, Any]) -> None:
        columns = dict(data)
        self._added(columns.pop("candidate"), columns)

    def _added(self, candidate: int, data: Mapping[str, Any]) -> None:
        for old in data["parents"]:
            if old not in self.candidates:
                self._fault(candidate, f"was proposed before its parent {old}")
        if data["known"] > self.n_results:
            known = f"knew result {data['known']} when {self.n_results} were committed"
            self._fault(candidate, known)
        if candidate in self.candidates:
            self._fault(candidate, "was proposed twice")
        self.candidates[candidate] = _OLDER | dict(data)

    def _queued(self, candidate: int, data: Mapping[str, Any]) -> None:
        if (candidate, data["purpose"]) in self.evaluations:
            self._fault(candidate, f"was queued twice ({data['purpose']})")
        self.evaluations[candidate, data["purpose"]] = Replayed()

    def _leased(self, candidate: int, data: Mapping[str, Any]) -> None:
        found = self.evaluations[candidate, data["purpose"]]
        if found.state != "queued" or data["attempt"] != found.attempt + 1:
            self._fault(candidate, f"was leased while {found.state}, attempt {found.attempt}")
        found.state, found.attempt = "relaxing", data["attempt"]
        found.lease_ends = self.time_s + data["lease_s"]

    def _requeued(self, candidate: int, data: Mapping[str, Any]) -> None:
        found = self._in_flight(candidate, data)
        found.state, found.lease_ends = "queued", None
        found.n_crashes += data["crashed"]

    def _recorded(self, candidate: int, data: Mapping[str, Any]) -> None:
        found = self._in_flight(candidate, data)
        found.state = "failed" if data["verdict"] == "failed" else "relaxed"
        found.verdict, found.energy = data["verdict"], data["energy"]
        found.n_calls, found.result = data["n_calls"], data["result"]
        found.lease_ends, found.finished = None, self.time_s
        self._state(self.stated, (candidate, data["purpose"]), data)
        if data["purpose"] == "search":
            self.n_results += 1
            if data["result"] != self.n_results:
                self._fault(candidate, f"has result {data['result']}, not {self.n_results}")

    def _late(self, candidate: int, data: Mapping[str, Any]) -> None:
        key = data.get("extra")  # before schema 0003 late results were not kept
        if key is None:
            return
        if data["attempt"] > self.evaluations[candidate, data["purpose"]].attempt:
            self._fault(candidate, f"has a late result of attempt {data['attempt']}, never begun")
        names = ("purpose", "attempt", "verdict", "energy", "n_calls")
        own = {"candidate": candidate, "level": SEARCH_LEVEL, "finished": self.time_s}
        self.extras[key] = own | {name: data[name] for name in names}
        self._state(self.sealed.setdefault("extras", {}), str(key), data)

    def _promoted(self, candidate: int, data: Mapping[str, Any]) -> None:
        self.promotions[candidate, data["rule"]] = data["reason"], self.time_s

    def _adopted(self, _: int | None, data: Mapping[str, Any]) -> None:
        new, old = data["candidate"], data["was"]
        self.candidates.pop(old)
        self.dft = {
            (new if n == old else n, level): found for (n, level), found in self.dft.items()
        }
        self.dft_stated = {
            (new if n == old else n, level): own for (n, level), own in self.dft_stated.items()
        }
        self.promotions = {
            (new if n == old else n, rule): own for (n, rule), own in self.promotions.items()
        }
        for job in self.jobs.values():
            job |= {name: new for name in ("candidate", "found") if job[name] == old}

    def _dft_recorded(self, _: int | None, data: Mapping[str, Any]) -> None:
        candidate = data["candidate"]
        if candidate not in self.candidates:
            self._fault(candidate, "has a result at another level before it was proposed")
        self.dft[candidate, data["level"]] = Replayed(
            state="relaxed",
            attempt=1,
            verdict=data["verdict"],
            energy=data["energy"],
            n_calls=data["n_calls"],
            finished=self.time_s,
        )
        self._state(self.dft_stated, (candidate, data["level"]), data)

    def _dft_level(self, _: int | None, data: Mapping[str, Any]) -> None:
        other = {"probe_energies": "[]", "ranks_only": False}
        other["weights_hash"] = data.get("weights_hash", "")
        own = {"potential": data["code"], "settings": data["settings"]}
        self.levels[data["name"]] = own | other

    def _dft_job(self, candidate: int, data: Mapping[str, Any]) -> None:
        new = {"candidate": candidate, "created": self.time_s, "found": None, "evaluation": None}
        job = self.jobs.setdefault(data["folder"], new | {"charge_order": None})
        names = ("level", "code", "state", "reason", "found", "evaluation", "charge_order")
        job |= {name: data[name] for name in names if name in data} | {"changed": self.time_s}

    def _sealed(self, _: int | None, data: Mapping[str, Any]) -> None:
        for what, hashes in data.items():
            self.sealed.setdefault(what, {}).update(hashes)

    def _state(self, hashes: dict[Any, str], key: Any, data: Mapping[str, Any]) -> None:
        """Note what a result states; those before schema 0004 are sealed by an event of theirs."""
        hashes.pop(key, None)
        if "sha256" in data:
            hashes[key] = data["sha256"]

    def _in_flight(self, candidate: int, data: Mapping[str, Any]) -> Replayed:
        found = self.evaluations[candidate, data["purpose"]]
        if found.state != "relaxing" or data["attempt"] != found.attempt:
            self._fault(candidate, f"ended attempt {data['attempt']} while {found.state}")
        return found

    def _fault(self, candidate: int, what: str) -> None:
        self.faults.append(f"candidate {candidate} {what}")


_HANDLERS: Mapping[str, Any] = {
    kinds.CREATED: Replay._created,
    kinds.OPERATIONAL: Replay._operational,
    kinds.PROPOSED: Replay._proposed,
    kinds.QUEUED: Replay._queued,
    kinds.LEASED: Replay._leased,
    kinds.REQUEUED: Replay._requeued,
    kinds.RECORDED: Replay._recorded,
    kinds.LATE_RESULT: Replay._late,
    kinds.ADDED: Replay._outside,
    kinds.ADOPTED: Replay._adopted,
    kinds.DFT_RECORDED: Replay._dft_recorded,
    kinds.RELEASED: Replay._dft_recorded,
    kinds.PROMOTED: Replay._promoted,
    kinds.DFT_LEVEL: Replay._dft_level,
    kinds.RELEASE_LEVEL: Replay._dft_level,
    kinds.DFT_JOB: Replay._dft_job,
    kinds.SEALED: Replay._sealed,
}
