"""Engines and what they start: engine.json, and what a dead driver left."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from tasks import source, task
from waited import wait_for

from gasearch import processes
from gasearch.execution.contract import ExecutorRequest
from gasearch.execution.engine_file import (
    EngineRecord,
    process_record,
    read_engine_file,
    write_engine_file,
)
from gasearch.execution.engines import end_orphans
from gasearch.execution.local.engine import LocalEngine
from gasearch.processes import command_line, descendants, is_the_same
from gasearch.run.execution_section import ExecutionSection

LOCAL = ExecutionSection()
SLEEP = ["sleep", "600"]


class TestEngineFile:
    def test_it_says_who_drives_and_what_runs(self, tmp_path, sleeper):
        own = processes.identity()
        started = (process_record("worker", sleeper.pid, "sleep"),)
        write_engine_file(tmp_path, EngineRecord("local", "local", own, started, ("7",)))
        found = read_engine_file(tmp_path)
        assert found.is_current
        assert found.jobs == ["7"]
        assert found.processes[0]["pid"] == sleeper.pid
        assert [path.name for path in tmp_path.iterdir()] == ["engine.json"]

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1, "a": 1}'])
    def test_one_that_cannot_be_read_is_none(self, tmp_path, text):
        (tmp_path / "engine.json").write_text(text)
        assert read_engine_file(tmp_path) is None

    def test_reading_it_needs_neither_torch_nor_parsl(self):
        code = (
            "import sys; from gasearch.execution.engine_file import read_engine_file; "
            "assert not {'torch', 'parsl'} & {*sys.modules}"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


def left_by(folder, *started, driver=None):
    """Write what a driver of this boot left, which is dead unless one is named."""
    gone = {**processes.identity(), "pid": 2**22 + 1}
    write_engine_file(folder, EngineRecord("parsl", "local", driver or gone, started))


class TestOrphans:
    def test_what_a_dead_driver_left_is_ended(self, tmp_path, sleeper):
        left_by(tmp_path, process_record("worker", sleeper.pid, "sleep"))
        assert end_orphans(tmp_path, LOCAL) == 1
        assert sleeper.wait(10) == -signal.SIGKILL
        assert not (tmp_path / "engine.json").exists()

    @pytest.mark.parametrize(
        "change",
        [{"started": "0:1"}, {"host": "elsewhere"}, {"mark": "another program"}, {"mark": ""}],
    )
    def test_nothing_else_is(self, tmp_path, sleeper, change):
        recorded = process_record("worker", sleeper.pid, "sleep") | change
        assert not is_the_same(recorded)
        left_by(tmp_path, recorded)
        assert end_orphans(tmp_path, LOCAL) == 0
        assert sleeper.poll() is None

    def test_what_a_driver_that_lives_has_is_its_own(self, tmp_path, sleeper):
        recorded = process_record("worker", sleeper.pid, "sleep")
        left_by(tmp_path, recorded, driver=processes.identity())
        assert end_orphans(tmp_path, LOCAL) == 0
        assert sleeper.poll() is None
        assert (tmp_path / "engine.json").exists()

    def test_descendants_are_children_and_theirs(self, tmp_path):
        code = f"import subprocess, time; subprocess.Popen({SLEEP}); time.sleep(600)"
        parent = subprocess.Popen([sys.executable, "-c", code])
        try:
            child = wait_for(lambda: descendants(parent.pid))[0]
            wait_for(lambda: command_line(child) == "sleep 600")
            assert {parent.pid, child} <= {*descendants(os.getpid())}
            assert child not in descendants(os.getpid(), direct=True)
        finally:
            parent.kill()
            parent.wait()
            os.kill(child, signal.SIGKILL)


def test_the_local_engine_writes_whom_it_started_and_removes_that_in_the_end(tmp_path):
    engine = LocalEngine(ExecutionSection(workers=2), write_every_s=0.05)
    request = ExecutorRequest(source("pmmcs"), tmp_path, tmp_path / "log", 1, 60.0, lambda: None)
    executor = engine.executor(request)
    assert read_engine_file(tmp_path).processes == []
    executor.submit(task(1))
    (worker,) = wait_for(lambda: read_engine_file(tmp_path).processes)
    assert is_the_same(worker)
    assert worker["role"] == "worker"
    engine.close()
    assert not psutil.pid_exists(worker["pid"])
    assert not (tmp_path / "engine.json").exists()
