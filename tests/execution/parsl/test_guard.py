"""The guard of a shell that starts a process in the background, and one in a session of its own."""

import os
import signal
import subprocess
import sys

import pytest
from waited import wait_for

from gasearch import processes
from gasearch.processes import descendants


def is_running(pid):
    return processes.started(pid) is not None


@pytest.fixture
def guarded(tmp_path):
    started = []

    def start(*options, again=False, last="wait"):
        pids = tmp_path / "pids"
        one = f"sleep 600 & echo $! >> {pids}"
        line = f"{one}; setsid {one}; {last}"
        more = ["--again"] if again else []
        command = [sys.executable, "-m", "gasearch.execution.parsl.guard", *more, *options]
        process = subprocess.Popen([*command, "--", "sh", "-c", line])
        started.append(process)
        wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        inner = wait_for(lambda: len(found := descendants(process.pid)) >= 3 and found)
        return process, inner

    yield start
    for process in started:
        for pid in descendants(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()


def test_told_to_end_it_ends_all(guarded):
    process, inner = guarded()
    process.terminate()
    assert process.wait(20) == 0
    assert not any(map(is_running, inner))


def test_what_its_program_leaves_is_ended_with_it(guarded):
    process, inner = guarded(last="sleep 1; exit 3")
    assert process.wait(20) == 3
    assert not any(map(is_running, inner))


def test_it_ends_all_when_the_driver_died(guarded, sleeper):
    own = processes.identity(sleeper.pid)
    process, inner = guarded("--driver", f"{own['host']},{own['pid']},{own['started']}")
    sleeper.kill()
    sleeper.wait()
    process.wait(20)
    assert not any(map(is_running, inner))


def test_a_program_that_was_killed_is_started_again(guarded, tmp_path):
    process, inner = guarded(again=True)
    (program,) = descendants(process.pid, direct=True)
    os.kill(program, signal.SIGKILL)
    wait_for(lambda: len((tmp_path / "pids").read_text().split()) == 4)
    assert process.poll() is None
    assert not any(map(is_running, inner))


def test_it_imports_nothing_heavy():
    code = (
        "import sys; import gasearch.execution.parsl.guard; "
        "assert not {'torch', 'parsl', 'numpy', 'ase'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
