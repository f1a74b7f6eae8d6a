"""The loop itself, with an executor whose relaxations end when the test likes."""

import threading

import numpy as np
from searching import relaxed

from gasearch.crystal.decoration import Decoration
from gasearch.crystal.io.hosts import host_to_json
from gasearch.execution.contract import Crashed, Finished, Slow
from gasearch.operators.contract import default_operators
from gasearch.relax.settings import RelaxSection
from gasearch.run.execution_section import ExecutionSection
from gasearch.run.sections import SearchSection
from gasearch.search.dispatcher import Dispatcher, DispatchSettings, start_structure
from gasearch.search.proposer import ProposalSettings, Proposer
from gasearch.search.replay import differences
from gasearch.search.search import Search, SearchLimits
from gasearch.search.visibility import Immediate, Lagged
from gasearch.seeding import named_rng
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import LevelRecord, RunRecord

LONG_CALLS = 100


class UnrulyExecutor:
    """Ends relaxations in random order; some are long, some crash their worker at first."""

    def __init__(self, store, seed, crashes=False):
        self._store = store
        self._rng = np.random.default_rng(seed)
        self._crashes = crashes
        self._tasks = []
        self._reported = set()
        self._fates = {}

    def submit(self, task):
        self._tasks.append(task)

    def close(self):
        self._tasks.clear()

    def wait(self, timeout_s):
        events = []
        for task in self._tasks:
            fate = self._fate(task)
            if fate.n_calls > LONG_CALLS and task.lease not in self._reported:
                self._reported.add(task.lease)
                events.append(Slow(task))
        short = [t for t in self._tasks if self._fate(t).n_calls <= LONG_CALLS]
        pool = short if short and self._rng.random() < 0.9 else self._tasks
        ended = pool[int(self._rng.integers(len(pool)))]
        self._tasks.remove(ended)
        if self._crashes and ended.lease.n_crashes == 0 and self._rng.random() < 0.3:
            return [*events, Crashed(ended, "shot", 0)]
        return [*events, Finished(ended, self._fate(ended))]

    def _fate(self, task):
        """What becomes of a candidate depends on its decoration alone."""
        if task not in self._fates:
            rng = named_rng(1, self._store.proposal(task.lease.candidate).fingerprint)
            self._fates[task] = relaxed(
                task.atoms,
                energy=float(rng.normal()),
                n_calls=int(rng.choice([20, 60, 300], p=[0.7, 0.2, 0.1])),
                verdict="ok" if rng.random() < 0.9 else "unconverged",
            )
        return self._fates[task]


def run_search(medium, path, visibility, seed, budget, in_flight, crashes=False, stop_after=None):
    """Run a search, new or resumed, and return its ending."""
    if not path.exists():
        run = RunRecord(host_to_json(medium), medium.atoms, {}, {}, 1, 8, {})
        level = LevelRecord("unruly", "unruly", "", (0.0, 0.0), ranks_only=False)
        PopulationStore.create(path, run, level).close()
    stop, seen = threading.Event(), []

    def observe(outcomes):
        seen.extend(outcomes)
        if stop_after is not None and len(seen) >= stop_after:
            stop.set()

    with PopulationStore.open(path) as store:
        executor = UnrulyExecutor(store, seed, crashes)
        settings = DispatchSettings(1, RelaxSection(rattle=0.0), ExecutionSection(lease_s=1e6))
        return Search(
            store,
            new_proposer(medium),
            visibility,
            Dispatcher(medium, store, executor, settings, stop),
            SearchLimits(budget, in_flight, stagnation=0, tight_window_per_fu=-1.0),
            observe,
        ).run()


def new_proposer(medium):
    settings = ProposalSettings(SearchSection(seed=5, initial=8))
    return Proposer(medium, default_operators(), medium.compositions, settings)


def record(path):
    with PopulationStore.open(path, read_only=True) as store:
        outcomes = {o.candidate: (o.energy, o.verdict, o.n_calls) for o in store.outcomes()}
        return [
            (p.number, p.fingerprint, p.operator, p.parents, p.n_rejected, outcomes[p.number])
            for p in store.proposals()
        ]


def replay_differences(medium, path, visibility):
    with PopulationStore.open(path, read_only=True) as store:
        return list(
            differences(new_proposer(medium), visibility, store.proposals(), store.outcomes())
        )


def test_a_reproducible_search_does_not_depend_on_timing_crashes_or_interruptions(tmp_path, medium):
    make = lambda: Lagged(3, LONG_CALLS)  # noqa: E731
    run_search(medium, tmp_path / "reference.db", make(), 0, 70, 3)
    reference = record(tmp_path / "reference.db")
    assert len(reference) == 70
    assert sum(n_calls > LONG_CALLS for *_, (_, _, n_calls) in reference) > 3
    for seed in range(1, 6):
        path = tmp_path / f"{seed}.db"
        rng = np.random.default_rng(seed)
        while (
            run_search(medium, path, make(), seed, 70, 3, seed % 2 == 0, int(rng.integers(3, 25)))
            == "stopped"
        ):
            pass
        assert record(path) == reference
        assert replay_differences(medium, path, make()) == []


def test_a_search_at_full_speed_is_replayed_from_its_record(tmp_path, medium, monkeypatch):
    monkeypatch.setattr("gasearch.search.dispatcher._COMMIT_INTERVAL_S", 0.0)
    for seed in range(4):
        path = tmp_path / f"{seed}.db"
        while run_search(medium, path, Immediate(), seed, 60, 4, seed == 2, 17) == "stopped":
            pass
        assert len(record(path)) == 60
        assert replay_differences(medium, path, Immediate()) == []
    assert record(tmp_path / "0.db") != record(tmp_path / "1.db")


def test_in_flight_is_never_exceeded_and_free_places_are_filled(tmp_path, medium, monkeypatch):
    monkeypatch.setattr("gasearch.search.dispatcher._COMMIT_INTERVAL_S", 0.0)
    busy = []
    wait = UnrulyExecutor.wait

    def counting(executor, timeout_s):
        busy.append(len(executor._tasks))
        return wait(executor, timeout_s)

    monkeypatch.setattr(UnrulyExecutor, "wait", counting)
    run_search(medium, tmp_path / "run.db", Immediate(), 0, 40, 4)
    assert busy == [4] * 37 + [3, 2, 1]


def test_results_that_come_fast_share_a_commit(tmp_path, medium, monkeypatch):
    monkeypatch.setattr("gasearch.search.dispatcher._COMMIT_INTERVAL_S", 60.0)
    run_search(medium, tmp_path / "run.db", Immediate(), 0, 40, 8)
    with PopulationStore.open(tmp_path / "run.db", read_only=True) as store:
        times = [event.time_s for event in store.events(kind="recorded")]
    assert len(times) == 40
    assert len(set(times)) < 20


def test_equivalent_decorations_start_from_the_same_structure(medium):
    """So that an energy belongs to a crystal, not to the image of it that was proposed."""
    rng = np.random.default_rng(0)
    decoration = Decoration.random(medium, medium.composition_at(0.5), rng)
    starts = []
    for permutation in medium.permutations:
        occupation = np.empty_like(decoration.occupation)
        occupation[permutation] = decoration.occupation
        starts.append(start_structure(Decoration(medium, occupation), 0.02, 1))
    for start in starts:
        assert np.array_equal(start.positions, starts[0].positions)
        assert np.array_equal(start.get_initial_charges(), starts[0].get_initial_charges())
    other = start_structure(decoration, 0.02, 2)
    assert not np.array_equal(other.positions, starts[0].positions)
