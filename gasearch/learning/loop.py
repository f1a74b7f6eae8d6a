"""`gasearch learn`: rounds of search, choice, DFT, training and verdict, one after another.

A round asks of each of its parts whether it is there already. So a loop that was killed anywhere
goes on with the same call, and nothing is computed twice.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from gasearch.analysis.export import decoration_name
from gasearch.analysis.findings import Findings
from gasearch.analysis.hull import ON_HULL
from gasearch.files import write_json
from gasearch.learning.agreement import Agreement, Compared, agreement, is_done
from gasearch.learning.checks import refuse_other_data, refuse_other_hosts
from gasearch.learning.choice import Chosen, choose
from gasearch.learning.expected.predictions import Expectations, expectations
from gasearch.learning.folder import LearnFolder, Round
from gasearch.learning.jobs import LoopJobs
from gasearch.learning.results import (
    all_frames,
    cell_errors,
    count_jobs,
    hull_members,
    known_results,
    mean_forces,
    x_range,
)
from gasearch.learning.training import Judged, checked, train_and_judge
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.store.opening import driver_lock

Ending = Literal["done", "rounds", "exhausted", "invalid", "stopped", "waiting"]
_NOT_HELD = {"hold": "off", "hold_stiffness": 0.0, "species": {}, "allow_charge_blind": False}


class Tools(Protocol):
    """What the caller of a loop brings: how searches are run, and what is shown of it all."""

    def search(self, folders: Sequence[RunFolder]) -> None:
        """Start or resume searches, and wait for them; one that was stopped is not done then."""
        ...

    def say(self, line: str) -> None:
        """Show a line that stays."""
        ...

    def dft(self, text: str) -> None:
        """Show what DFT jobs do just now."""
        ...

    def training(self, output: Path) -> Any:
        """Return a context in which a training runs: it gives what is called with its progress."""
        ...


@dataclass(frozen=True)
class State:
    """What a round starts from.

    Parameters
    ----------
    number
        Of the round.
    runs
        The run folders that it searches.
    earlier
        All run folders of the rounds before, these included where they go on.
    model
        Folder of the network that they search with; None where it is the one of run.toml.
    """

    number: int
    runs: tuple[RunFolder, ...]
    earlier: tuple[RunFolder, ...]
    model: Path | None

    @property
    def all_runs(self) -> tuple[RunFolder, ...]:
        """All run folders up to this round."""
        return tuple(dict.fromkeys([*self.earlier, *self.runs]))


@dataclass
class Loop:
    """One learning loop.

    Parameters
    ----------
    go_on
        Whether a round ends without the results of external jobs that are not there yet.
    """

    folder: LearnFolder
    tools: Tools
    go_on: bool = False

    def run(self) -> Ending:
        """Go on until it is done, and return why it ended."""
        settings = self.folder.settings()
        self.folder.document()
        checked(settings.train, self.folder.path)
        with driver_lock(self.folder.path / "learn"):
            while True:
                results = [one.result() or {} for one in self.folder.rounds()]
                if is_done(results, settings.done):
                    return "done"
                if results and not results[-1]["n_jobs"]:
                    return "exhausted"
                if len(results) >= settings.rounds.most:
                    return "rounds"
                ending = self._round(len(results) + 1, results)
                if ending is not None:
                    return ending

    def _round(self, number: int, results: Sequence[Mapping[str, Any]]) -> Ending | None:
        """Do what is left of a round; return why it could not be ended."""
        own = self.folder.round(number)
        state = self._state(number, results)
        refuse_other_hosts(self.folder, state.earlier)
        refuse_other_data(self.folder, self._data(), self.jobs.common_level(state.runs))
        awaited = {(one["run"], one["id"]) for one in (own.plan() or {}).get("chosen", ())}
        self.jobs.collect_late(state.earlier, {one["level"] for one in results}, awaited)
        if own.plan() is None:
            self.tools.say(f"round {number}: searching with {self._potential(state)}")
            if not all(map(_is_searched, state.runs)):
                self.tools.search(state.runs)
            if not all(map(_is_searched, state.runs)):
                return "stopped"
            if not any(map(_has_candidates, state.runs)):
                first = state.runs[0].quoted
                self.tools.say(
                    f"round {number}: no candidate that {self._potential(state)} relaxed is valid; "
                    f"see why with: gasearch status {first}"
                )
                return "invalid"
            self._choose(own, state)
        plan = own.plan() or {}
        waiting = self.jobs.compute(plan, state.runs)
        if waiting and not self.go_on:
            self.tools.say(
                f"waiting for {waiting} results: put the outputs into the job folders, and start "
                "the same command again; --go-on goes on without them"
            )
            return "waiting"
        self._conclude(own, state, plan, results)
        return None

    @functools.cached_property
    def jobs(self) -> LoopJobs:
        """Its DFT."""
        return LoopJobs(self.folder, self.tools.say, self.tools.dft)

    def _potential(self, state: State) -> str:
        if state.model is None:
            return state.runs[0].settings().potential.name
        return self.folder.name_of(state.model)

    def _state(self, number: int, results: Sequence[Mapping[str, Any]]) -> State:
        """Return what a round starts from: the runs of before, or new ones of a new potential."""
        earlier = tuple(
            RunFolder(self.folder.path / name)
            for name in dict.fromkeys(name for one in results for name in one["runs"])
        )
        model: Path | None = None
        if results and results[-1]["model"]:
            model = self.folder.path / results[-1]["model"]
        plan = self.folder.round(number).plan() or {}
        if "runs" in plan:
            runs = tuple(RunFolder(self.folder.path / name) for name in plan["runs"])
            return State(number, runs, earlier, model)
        parent = self.folder.round(number).path
        last = [self.folder.path / name for name in (results[-1]["runs"] if results else ())]
        goes_on = bool(results) and results[-1]["model"] == results[-1]["searched_with"]
        made = [
            self._run(parent, supercell, model, last, goes_on=goes_on)
            for supercell in self.folder.supercells()
        ]
        return State(number, tuple(dict.fromkeys(made)), earlier, model)

    def _run(
        self,
        parent: Path,
        supercell: Any,
        model: Path | None,
        last: Sequence[Path],
        *,
        goes_on: bool,
    ) -> RunFolder:
        """Return the run of a supercell; with a new potential the old lowest are relaxed anew."""
        again = self.folder.settings().rounds.lowest_again

        def changes(path: Path) -> dict[str, dict[str, Any]]:
            if model is None:
                return {}
            old = [os.path.relpath(one, path) for one in last if one.name == path.name]
            return {
                "potential": {"name": os.path.relpath(model, path), **_NOT_HELD},
                "relax": {"reader": "own"},
                "seeds": {"runs": old, "tilings_per_composition": again},
            }

        kept = [RunFolder(one) for one in last] if goes_on else []
        return self.folder.make_run(parent, supercell, changes, kept)

    def _data(self) -> list[Path]:
        return [self.folder.path / name for name in self.folder.settings().rounds.data]

    def _choose(self, own: Round, state: State) -> None:
        """Write which candidates go to DFT, and what is expected of them."""
        settings = self.folder.settings()
        level = self.jobs.common_level(state.runs)
        expected = expectations(
            state.runs, self.folder.path, level.name, correct=settings.choice.correction
        )
        known = {one.key for one in known_results(state.all_runs, self.folder.path, level.name)}
        chosen = choose(expected, settings.choice, settings.rounds.jobs, known)
        write_json(
            own.plan_file,
            {
                "number": own.number,
                "runs": [self.folder.name_of(run.path) for run in state.runs],
                "level": level.name,
                "code": level.code,
                "chosen": [_as_json(one, expected) for one in chosen],
                "known": [
                    {"run": row.run, "id": row.id, "expected_per_fu": row.expected_per_fu}
                    for row in expected.candidates
                    if row.dft_eV is not None
                ],
                "expected_hull": _members(expected),
                "corrections": dict(expected.corrections),
            },
        )
        for told in expected.corrections.values():
            self.tools.say(f"round {own.number}: {told}")

    def _conclude(
        self,
        own: Round,
        state: State,
        plan: Mapping[str, Any],
        results: Sequence[Mapping[str, Any]],
    ) -> None:
        """Compare, train and judge; write what the round found."""
        settings = self.folder.settings()
        level = plan["level"]
        known = known_results(state.all_runs, self.folder.path, level)
        found = self._agreement(plan, state)
        counts = count_jobs(state.all_runs, level)
        document: dict[str, Any] = {
            "number": own.number,
            "runs": [self.folder.name_of(run.path) for run in state.runs],
            "searched_with": None if state.model is None else self.folder.name_of(state.model),
            "level": level,
            "n_jobs": len(plan["chosen"]),
            "jobs": asdict(counts),
            "expected_hull": plan["expected_hull"],
            "corrections": plan["corrections"],
            "agreement": found.to_json(),
            "hull": [asdict(one) for one in hull_members(known, x_range(state.runs))],
            "training": None,
            "model": None if state.model is None else self.folder.name_of(state.model),
        }
        if plan["chosen"]:
            self._write_frames(own, state, level)
            if not is_done([*results, document], settings.done):
                judged = self._train(own, state, plan)
                document["training"] = judged.to_json()
                if judged.is_kept:
                    document["model"] = self.folder.name_of(own.model)
                self.tools.say(f"round {own.number}: {judged.in_words()}")
        write_json(own.result_file, {**document, "ended_s": time.time()})
        self._tell(document, found)

    def _tell(self, document: Mapping[str, Any], found: Agreement) -> None:
        error = found.formation_error_per_fu
        told = "" if error is None else f", formation energies off by {1000 * error:.1f} meV/f.u."
        hull = ", ".join(f"{one['x']:.4g}" for one in document["hull"]) or "not known yet"
        self.tools.say(
            f"round {document['number']} is over: {document['jobs']['jobs']} DFT jobs so far"
            f"{told}; hull at x = {hull}"
        )

    def _agreement(self, plan: Mapping[str, Any], state: State) -> Agreement:
        """Return how well what was expected of this round's candidates agrees with DFT."""
        level = plan["level"]
        now = expectations(state.runs, self.folder.path, level, correct=False)
        said = {(one["run"], one["id"]): one for one in (*plan["known"], *plan["chosen"])}
        is_new = {(one["run"], one["id"]) for one in plan["chosen"]}
        forces = {self.folder.name_of(run.path): mean_forces(run, level) for run in state.runs}
        cells = {self.folder.name_of(run.path): cell_errors(run, level) for run in state.runs}
        compared, fresh = [], []
        for row in now.candidates:
            before = said.get((row.run, row.id))
            if row.dft_eV is None or before is None:
                continue
            one = Compared(
                row.cell,
                row.fingerprint,
                row.x,
                before["expected_per_fu"],
                row.dft_eV / row.n_units,
                forces[row.run].get(row.id),
                before.get("sigma_per_fu"),
                cells[row.run].get(row.id),
            )
            compared.append(one)
            if (row.run, row.id) in is_new:
                fresh.append(one)
        return agreement(fresh, compared, x_range(state.runs))

    def _write_frames(self, own: Round, state: State, level: str) -> None:
        """Write all labelled frames so far, unless they are there."""
        if not own.frames.exists():
            left_out = all_frames(state.all_runs, level, own.frames).left_out
            for reason, n in left_out.items():
                self.tools.say(f"round {own.number}: {n} left out of the frames: {reason}")

    def _train(self, own: Round, state: State, plan: Mapping[str, Any]) -> Judged:
        """Train on all frames so far, and judge what came of it."""
        section = checked(self.folder.settings().train, self.folder.path)
        files, fresh = [own.frames, *self._data()], self._fresh(plan)
        old = Session(state.runs[0]).potential, None if state.model is None else str(state.model)
        with self.tools.training(own.model) as progress:
            return train_and_judge(files, own.model, section, old, fresh, own.number, progress)

    def _fresh(self, plan: Mapping[str, Any]) -> list[str]:
        """Return the decorations of this round that no potential has learned, in their order."""
        from gasearch.training.data.reading import read_frames

        over = [one.frames for one in self.folder.rounds() if one.frames.exists()]
        learned = [*over[-1:], *self._data()]
        before = {frame.decoration for frame in read_frames(learned).frames} if learned else set()
        names = dict.fromkeys(one["decoration"] for one in plan["chosen"])
        return [name for name in names if name not in before]


def _is_searched(folder: RunFolder) -> bool:
    if not folder.is_started:
        return False
    with folder.open_store() as store:
        return Findings(store).status().done


def _has_candidates(folder: RunFolder) -> bool:
    with folder.open_store() as store:
        return bool(Findings(store).ranked())


def _as_json(one: Chosen, expected: Expectations) -> dict[str, Any]:
    row = one.row
    sigma = row.sigma_per_fu
    return {
        "run": row.run,
        "id": row.id,
        "decoration": decoration_name(expected.hosts[row.run], row.fingerprint),
        "cell": row.cell,
        "fingerprint": row.fingerprint,
        "x": row.x,
        "rule": one.rule,
        "reason": one.reason,
        "expected_per_fu": row.expected_per_fu,
        "sigma_per_fu": sigma if 0 < sigma < math.inf else None,
    }


def _members(expected: Expectations) -> list[dict[str, Any]]:
    """Return the hull that is expected, one candidate for each x."""
    found: dict[float, dict[str, Any]] = {}
    for row in expected.candidates:
        if row.above_hull_per_fu <= ON_HULL:
            found.setdefault(
                row.x,
                {
                    "cell": row.cell,
                    "fingerprint": row.fingerprint,
                    "x": row.x,
                    "formation_per_fu": row.formation_per_fu,
                },
            )
    return list(found.values())
