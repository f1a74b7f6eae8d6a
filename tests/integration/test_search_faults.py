"""Searches that are really killed, starved and poisoned: nothing acknowledged is lost."""

import json
import random
import resource
import signal
import subprocess
import sys
import time

import psutil
import pytest
from places import KILL_DRIVER
from searched import record

from gasearch.run.folder import RunFolder
from gasearch.search.check import check_run
from gasearch.search.session import Session

GASEARCH = [sys.executable, "-m", "gasearch"]


def gasearch(*arguments, **options):
    return subprocess.run(
        [*GASEARCH, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )


def search_here(*folders):
    """Search in this process, without faults."""
    for folder in folders:
        Session(RunFolder(folder)).run()


def assert_whole(folder, **options):
    assert check_run(RunFolder(folder), **options) == []


def drive(*folders):
    done = subprocess.run(
        [sys.executable, str(KILL_DRIVER), *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_killed_at_each_commit_a_search_ends_as_if_it_had_never_been(tmp_path, make_run):
    plans = {"unbroken": []}
    for moment in ("before", "after"):
        plans |= {f"{moment}-{n}": [[n, moment]] for n in range(1, 13)}
        plans[f"{moment}-chain"] = [[3 + n % 4, moment] for n in range(30)]
    for name, kills in plans.items():
        folder = make_run(tmp_path / name)
        (folder / "kills.json").write_text(json.dumps(kills))
    report = drive(*(tmp_path / name for name in plans))
    reference = record(tmp_path / "unbroken")
    assert len(reference) == 16
    for name, kills in plans.items():
        codes = report[str(tmp_path / name)]
        assert codes[-1] == 0
        if kills:
            assert codes[0] == -signal.SIGKILL, f"{name} was not killed"
        assert record(tmp_path / name) == reference, name
    for name in ("before-chain", "after-chain"):
        assert report[str(tmp_path / name)].count(-signal.SIGKILL) >= 8
        assert_whole(tmp_path / name, replay=True)


def start(folder):
    return subprocess.Popen(
        [*GASEARCH, "run", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, limit_s=300.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def n_done(folder):
    if not (folder / "search.db").exists():
        return 0
    with RunFolder(folder).open_store() as store:
        return len(store.outcomes())


@pytest.mark.usefixtures("forked_workers")  # those of this process
def test_a_search_with_workers_survives_kills_at_random_times(tmp_path, make_run):
    search = {"in_flight": 2, "reproducible": True}
    runs = [
        make_run(tmp_path / name, "pmmcs", search=search, execution={"workers": 2})
        for name in ("unbroken", "killed")
    ]
    search_here(runs[0])
    rng = random.Random(11)
    workers = []
    for n in (2, 6, 11):
        process = start(runs[1])
        wait_for(lambda n=n, process=process: n_done(runs[1]) >= n or process.poll() is not None)
        time.sleep(rng.uniform(0, 0.3))
        workers += psutil.Process(process.pid).children() if process.poll() is None else []
        process.kill()
        process.communicate()
    search_here(runs[1])
    assert record(runs[1]) == record(runs[0])
    assert len(record(runs[1])) == 16
    assert_whole(runs[1], replay=True, rejudge=True)
    assert workers
    assert psutil.wait_procs(workers, timeout=10)[1] == [], "workers outlive their driver"


def test_a_batch_whose_worker_is_killed_again_and_again_costs_no_candidate(tmp_path, make_run):
    folder = make_run(tmp_path / "run", "pmmcs", search={"in_flight": 4}, execution={"workers": 1})
    process, killed = start(folder), 0
    while process.poll() is None:
        if killed < 3 and n_done(folder) >= 4 * killed + 1:
            for worker in psutil.Process(process.pid).children():
                worker.kill()
                killed += 1
        time.sleep(0.02)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    rows = record(folder)
    assert killed >= 2
    assert len(rows) == 16
    assert {row[-1] for row in rows} <= {"ok", "order_lost"}  # whether an Na hops is no fault
    assert_whole(folder, replay=True, rejudge=True)


def test_sigterm_ends_cleanly_with_the_line_that_resumes(tmp_path, make_run):
    folder = make_run(tmp_path / "run", "./toy.py:Hanging", execution={"workers": 1})
    reference = make_run(tmp_path / "reference", "./toy.py:LabelEnergy")
    process = start(folder)
    wait_for(lambda: n_done(folder) >= 2)
    time.sleep(0.5)
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert f"Resume with: gasearch run {folder}" in output
    assert "Traceback" not in output
    with RunFolder(folder).open_store() as store:
        assert store.counts().in_flight == 0
    assert_whole(folder)
    search_here(reference)
    assert [r[:3] for r in record(reference)][: n_done(folder)] == [r[:3] for r in finished(folder)]


def finished(folder):
    with RunFolder(folder).open_store() as store:
        done = {o.candidate for o in store.outcomes()}
        return [
            (p.number, p.fingerprint, p.operator) for p in store.proposals() if p.number in done
        ]


def test_a_second_process_is_refused_while_the_first_lives(tmp_path, make_run):
    folder = make_run(tmp_path / "run", "./toy.py:Hanging", execution={"workers": 1})
    process = start(folder)
    wait_for(lambda: n_done(folder) >= 1)
    second = gasearch("run", folder)
    assert second.returncode == 1
    assert f"process {process.pid} on" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("potential", "reason"),
    [("NotANumber", "finite"), ("Exploding", "explodes"), ("Raising", "the calculator gave up")],
)
def test_a_poisonous_candidate_costs_only_itself(tmp_path, make_run, potential, reason):
    folder = make_run(tmp_path / "run", f"./toy.py:{potential}")
    search_here(folder)
    rows = record(folder)
    assert len(rows) == 16
    with RunFolder(folder).open_store() as store:
        bad = [row for row in store.evaluations(verdict=None) if row.verdict != "ok"]
    assert {row.composition for row in bad} == {"Na3Fe4P4O16"}
    assert len(bad) == 2
    assert all(reason in row.reason for row in bad)
    assert_whole(folder, replay=True)


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("potential", ["Killer", "Hanging"])
def test_a_candidate_that_takes_its_worker_down_is_marked_and_left(tmp_path, make_run, potential):
    folder = make_run(
        tmp_path / "run",
        f"./toy.py:{potential}",
        search={"in_flight": 2},
        execution={"workers": 2, "wall_limit_s": 1.5, "max_crashes": 2},
    )
    search_here(folder)
    rows = record(folder)
    assert len(rows) == 16
    failed = [row for row in rows if row[-1] == "failed"]
    assert len(failed) == 2
    with RunFolder(folder).open_store() as store:
        reasons = [r.reason for r in store.evaluations(verdict="failed")]
    expected = "ended by signal 6" if potential == "Killer" else "no end within 1.5 s"
    assert all(f"2 attempts failed; the last: " in r and expected in r for r in reasons)  # noqa: F541
    assert_whole(folder, replay=True)


@pytest.mark.usefixtures("forked_workers")
def test_a_candidate_whose_worker_died_once_is_relaxed_again(tmp_path, make_run, monkeypatch):
    folder = make_run(tmp_path / "run", "./toy.py:KillerOnce", execution={"workers": 1})
    reference = make_run(tmp_path / "reference")
    monkeypatch.setenv("KILLED_ONCE", str(tmp_path / "mark"))
    search_here(folder)
    assert (tmp_path / "mark").exists()
    search_here(reference)
    assert record(folder) == record(reference)


def test_a_full_disk_stops_the_search_with_one_line_and_it_goes_on_afterwards(tmp_path, make_run):
    folder, reference = make_run(tmp_path / "run"), make_run(tmp_path / "reference")
    search_here(reference)
    size = (reference / "search.db").stat().st_size

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size * 3 // 4, size * 3 // 4))

    full = gasearch("run", folder, preexec_fn=limit)
    assert full.returncode == 1, full.stdout
    assert "Traceback" not in full.stderr
    assert len(full.stderr.strip().splitlines()) == 1
    assert_whole(folder)
    search_here(folder)
    assert record(folder) == record(reference)


def test_a_corrupted_blob_is_found_and_named(tmp_path, make_run):
    folder = make_run(tmp_path / "run", budget=6)
    search_here(folder)
    with RunFolder(folder).open_store() as store:
        positions = store.relaxed(5).atoms.positions.astype("<f8").tobytes()
    data = bytearray((folder / "search.db").read_bytes())
    place = data.index(positions[:64])
    data[place + 3] ^= 1
    (folder / "search.db").write_bytes(data)
    (problem,) = check_run(RunFolder(folder))
    assert "candidate 5" in problem.detail
    assert "positions" in problem.detail
