"""Processes that work on a population database until they die: see `test_store_faults.py`.

    python store_process.py write PATH ACKNOWLEDGED [N_FORMULA_UNITS [PAUSE_S]]
        a search that never ends
    python store_process.py read PATH
        stock ASE reading again and again
    python store_process.py hold PATH
        a reader that keeps its snapshot
    python store_process.py backup PATH TARGET
        one copy
    python store_process.py crash PATH ACKNOWLEDGED N
        a search that is killed around each of its commits, then at N random moments, and checked
        after each
    python store_process.py spill PATH
        killed when half of a transaction is in the file

Each prints `ready` once it is at work.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

from gasearch.store.checks.check import check_store
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import Committed
from gasearch.store.sql.batch import Batch
from gasearch.store.sqlite.lock import DriverLock
from gasearch.testing.store import example_proposal, example_relaxed

MOMENTS = ("before", "inside", "after")


def write(path: Path, acknowledged: Path, n_formula_units: str = "1", pause_s: str = "0") -> None:
    """Search without end."""
    with DriverLock(path), PopulationStore.open(path, busy_s=1) as store:
        print("ready", flush=True)
        search(store, acknowledged, int(n_formula_units), float(pause_s))


def search(
    store: PopulationStore,
    acknowledged: Path,
    n_formula_units: int = 1,
    pause_s: float = 0,
    dies: tuple[str, int] = ("never", 0),
) -> None:
    """Resume the search, and write down each result after the commit that acknowledged it.

    Parameters
    ----------
    dies
        At which moment of which commit.
    """
    moment, n_commits = dies
    candidates = store.requeue_stale()
    batch = store.batch()
    batch.lease(candidates)
    batch.event("resumed")
    while True:
        n_commits -= 1
        done = commit(batch, moment if n_commits == 0 else "never")
        lines = "".join(f"{o.result} {o.candidate} {o.energy}\n" for o in done.outcomes)
        with acknowledged.open("ab", buffering=0) as file:
            file.write(lines.encode())
        time.sleep(pause_s)
        batch = store.batch()
        first = store.n_candidates + 1
        numbers = range(first, first + 3)
        batch.propose(example_proposal(k, parents=(k - 1,) if k > 1 else ()) for k in numbers)
        batch.lease(numbers)
        for lease in done.leases:
            batch.record(lease, example_relaxed(lease.candidate, n_formula_units))


def commit(batch: Batch, moment: str) -> Committed:
    """Commit, and die on the way."""
    if moment == "inside":
        batch.apply = lambda transaction: die(Batch.apply(batch, transaction))
    if moment == "before":
        die()
    done = batch.commit()
    if moment == "after":
        die()
    return done


def die(*_: object) -> None:
    """Leave as if somebody had pulled the plug."""
    os.kill(os.getpid(), signal.SIGKILL)


def crash(path: Path, acknowledged: Path, n: str) -> None:
    """Kill a search at chosen and at random moments; complain if anything is lost or doubled."""
    print("ready", flush=True)
    for n_commits in (1, 2, 3, 4):
        for moment in MOMENTS:
            child = fork(path, acknowledged, (moment, n_commits))
            _, status = os.waitpid(child, 0)
            assert os.WTERMSIG(status) == signal.SIGKILL
            verify(path, acknowledged)
    rng = random.Random(1)
    for trial in range(int(n)):
        size = acknowledged.stat().st_size
        child = fork(path, acknowledged, ("never", 0))
        while trial % 2 and acknowledged.stat().st_size == size:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        verify(path, acknowledged)


def fork(path: Path, acknowledged: Path, dies: tuple[str, int]) -> int:
    """Start the search in a child, which has no connection of its parent."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        with DriverLock(path), PopulationStore.open(path) as store:
            search(store, acknowledged, dies=dies)
    return child


def verify(path: Path, acknowledged: Path) -> None:
    """Raise if a result that was acknowledged is lost, or one is there twice."""
    with PopulationStore.open(path) as store:
        outcomes = store.outcomes()
        for line in acknowledged.read_text().splitlines():
            result, candidate, energy = line.split()
            outcome = outcomes[int(result) - 1]
            assert (outcome.result, outcome.candidate) == (int(result), int(candidate)), line
            assert outcome.energy == float(energy), line
        candidates = [outcome.candidate for outcome in outcomes]
        assert len(candidates) == len(set(candidates)), "a candidate was recorded twice"
    assert check_store(path) == [], check_store(path)


def read(path: Path) -> None:
    """Read with stock ASE."""
    import ase.db

    print("ready", flush=True)
    while True:
        rows = [row.gaid for row in ase.db.connect(path).select("relaxed=1")]
        assert len(rows) == len(set(rows)), "a candidate was there twice"


def hold(path: Path) -> None:
    """Keep a snapshot, and with it a shared lock."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM candidate").fetchone()
    print("ready", flush=True)
    sys.stdin.read()


def backup(path: Path, target: Path) -> None:
    """Copy the file once."""
    with PopulationStore.open(path, read_only=True) as store:
        print("ready", flush=True)
        store.backup(target)


def spill(path: Path) -> None:
    """Die when changed pages are in the file and their old content is in the journal."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size=1")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE candidate SET occupation = zeroblob(2000), n_rejected = 77")
    connection.execute("UPDATE structure SET forces = zeroblob(9000)")
    print("ready", flush=True)
    die()


if __name__ == "__main__":
    name, first, *rest = sys.argv[1:]
    work = {f.__name__: f for f in (write, read, hold, backup, crash, spill)}[name]
    work(Path(first), *((Path(rest[0]), *rest[1:]) if rest else ()))
