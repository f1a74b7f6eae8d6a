"""Engines and what they start: settings, engine.json, orphans, guards, and long programs."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from places import DATA

from gasearch import processes
from gasearch.execution.contract import ExecutionError, JobRequest, Order, Resources
from gasearch.execution.devices import (
    NoDeviceError,
    elsewhere,
    enough_for_batches,
    enough_in_flight,
)
from gasearch.execution.engine_file import (
    EngineRecord,
    on_this_machine,
    read_engine_file,
    write_engine_file,
)
from gasearch.execution.engines import end_orphans, open_engine
from gasearch.execution.parsl.jobs import SchedulerJob, submit_scheduler_job
from gasearch.execution.parsl.providers import make_provider, make_site, start_lines
from gasearch.execution.parsl.site import Walltimes
from gasearch.processes import command_line, descendants, is_the_same
from gasearch.run.config import run_settings
from gasearch.run.execution_section import ExecutionSection
from gasearch.run.folder import RunFolder
from gasearch.run.sections import RunFileError

LOCAL = ExecutionSection()
WITH_PARSL = pytest.mark.skipif(
    find_spec("parsl") is None and "CI" not in os.environ, reason="parsl is not installed"
)
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def wait_for(condition, limit_s=60.0):
    end = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def is_running(pid):
    return processes.started(pid) is not None


@pytest.fixture
def sleeper():
    """A process that sleeps."""
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


def execution(**keys):
    host = {"structure": "nafepo4-olivine", "supercell": [1, 1, 1]}
    document = {"host": host, "potential": {"name": "pmmcs"}, "execution": keys}
    return run_settings(document, "run.toml")


class TestSettings:
    @pytest.mark.parametrize(
        ("keys", "told"),
        [
            ({"engine": "dask"}, "execution.engine = 'dask'"),
            ({"engine": "parsl", "provider": "slrum"}, 'expected "local", "slurm", "pbs", "lsf"'),
            ({"provider": "slurm"}, 'provider = "slurm" needs engine = "parsl"'),
            ({"engine": "parsl", "workers": 0}, "needs workers = 1 or more"),
            ({"engine": "parsl", "device": "cuda:1"}, "is for one machine"),
            ({"engine": "parsl", "device": "cuda"}, "needs gpus_per_node"),
            ({"walltime": "1 day"}, "expected hours, minutes and seconds"),
            ({"walltime": "00:00:00"}, "expected hours, minutes and seconds"),
            ({"min_blocks": 3, "max_blocks": 2}, "min_blocks = 3 is more than max_blocks = 2"),
            ({"lease_s": "long"}, 'expected "auto", or seconds'),
            ({"batch_s": 0.0}, "execution.batch_s = 0.0"),
            ({"gpu_per_node": 4}, "gpus_per_node"),
        ],
    )
    def test_what_cannot_be_is_one_line(self, keys, told):
        with pytest.raises(RunFileError) as error:
            execution(**keys)
        assert told in str(error.value)
        assert "\n" not in str(error.value)

    def test_all_of_it_may_change_on_resume(self):
        settings = execution(engine="parsl", workers=8)
        assert not [key for key in settings.defining() if key.startswith("execution.")]

    @pytest.mark.parametrize(
        ("keys", "n_workers"),
        [
            ({"workers": 6}, 6),
            ({"engine": "parsl", "workers": 6, "nodes": 2, "max_blocks": 3}, 36),
            ({"engine": "parsl", "workers": 6, "gpus_per_node": 4, "max_blocks": 2}, 8),
            ({"engine": "parsl", "workers": 6, "gpus_per_node": 4, "device": "cpu"}, 6),
        ],
    )
    def test_a_gpu_has_one_worker_and_a_node_its_own(self, keys, n_workers):
        assert ExecutionSection(**keys).most_workers == n_workers

    def test_a_lease_leaves_time_for_batches(self):
        assert ExecutionSection(wall_limit_s=100.0).lease_in_s == 200.0
        assert ExecutionSection(engine="parsl", wall_limit_s=100.0).lease_in_s == 680.0
        assert ExecutionSection(lease_s=7.0).lease_in_s == 7.0


class TestDevices:
    def test_nodes_elsewhere_are_taken_at_their_word(self, tmp_path):
        toy = "./toy_potentials.py:LabelEnergy"
        data = DATA
        assert elsewhere("auto", "pmmcs", tmp_path, 0) == "cpu"
        assert elsewhere("auto", "pmmcs", tmp_path, 4) == "cuda"
        assert elsewhere("cpu", "pmmcs", tmp_path, 4) == "cpu"
        assert elsewhere("auto", toy, data, 4) == "cpu"
        with pytest.raises(NoDeviceError, match="takes no device"):
            elsewhere("cuda", toy, data, 4)

    def test_enough_is_in_flight_for_batches(self):
        assert enough_for_batches("cpu", 4, 28) == 32
        assert enough_for_batches("cuda", 3, 28) == 3 * enough_in_flight("cuda", 1, 28)


class TestEngineFile:
    def test_it_says_who_drives_and_what_runs(self, tmp_path, sleeper):
        own = processes.identity()
        started = (on_this_machine("worker", sleeper.pid, "time.sleep"),)
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
        left_by(tmp_path, on_this_machine("worker", sleeper.pid, "time.sleep"))
        assert end_orphans(RunFolder(tmp_path), LOCAL) == 1
        assert sleeper.wait(10) == -signal.SIGKILL
        assert not (tmp_path / "engine.json").exists()

    @pytest.mark.parametrize(
        "change",
        [{"started": "0:1"}, {"host": "elsewhere"}, {"mark": "another program"}, {"mark": ""}],
    )
    def test_nothing_else_is(self, tmp_path, sleeper, change):
        recorded = on_this_machine("worker", sleeper.pid, "time.sleep") | change
        assert not is_the_same(recorded)
        left_by(tmp_path, recorded)
        assert end_orphans(RunFolder(tmp_path), LOCAL) == 0
        assert sleeper.poll() is None

    def test_what_a_driver_that_lives_has_is_its_own(self, tmp_path, sleeper):
        recorded = on_this_machine("worker", sleeper.pid, "time.sleep")
        left_by(tmp_path, recorded, driver=processes.identity())
        assert end_orphans(RunFolder(tmp_path), LOCAL) == 0
        assert sleeper.poll() is None
        assert (tmp_path / "engine.json").exists()

    def test_descendants_are_children_and_theirs(self, tmp_path):
        code = f"import subprocess, time; subprocess.Popen({SLEEP}); time.sleep(600)"
        parent = subprocess.Popen([sys.executable, "-c", code])
        try:
            child = wait_for(lambda: descendants(parent.pid))[0]
            wait_for(lambda: "time.sleep(600)" in command_line(child))
            assert {parent.pid, child} <= {*descendants(os.getpid())}
            assert child not in descendants(os.getpid(), direct=True)
        finally:
            parent.kill()
            parent.wait()
            os.kill(child, signal.SIGKILL)


class TestGuard:
    """The guard of a shell that starts a process in the background, and a session of its own."""

    @pytest.fixture
    def guarded(self, tmp_path):
        started = []

        def start(*options, again=False, last="wait"):
            pids = tmp_path / "pids"
            one = f"{' '.join(SLEEP[:2])} '{SLEEP[2]}' & echo $! >> {pids}"
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

    def test_told_to_end_it_ends_all(self, guarded):
        process, inner = guarded()
        process.terminate()
        assert process.wait(20) == 0
        assert not any(map(is_running, inner))

    def test_what_its_program_leaves_is_ended_with_it(self, guarded):
        process, inner = guarded(last="sleep 1; exit 3")
        assert process.wait(20) == 3
        assert not any(map(is_running, inner))

    def test_it_ends_all_when_the_driver_died(self, guarded, sleeper):
        own = processes.identity(sleeper.pid)
        process, inner = guarded("--driver", f"{own['host']},{own['pid']},{own['started']}")
        sleeper.kill()
        sleeper.wait()
        process.wait(20)
        assert not any(map(is_running, inner))

    def test_a_program_that_was_killed_is_started_again(self, guarded, tmp_path):
        process, inner = guarded(again=True)
        (program,) = descendants(process.pid, direct=True)
        os.kill(program, signal.SIGKILL)
        wait_for(lambda: len((tmp_path / "pids").read_text().split()) == 4)
        assert process.poll() is None
        assert not any(map(is_running, inner))

    def test_it_imports_nothing_heavy(self):
        code = (
            "import sys; import gasearch.execution.parsl.guard; "
            "assert not {'torch', 'parsl', 'numpy', 'ase'} & {*sys.modules}"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestLongPrograms:
    @pytest.fixture
    def engine(self, tmp_path):
        engine = open_engine(LOCAL, RunFolder(tmp_path))
        yield engine
        engine.close()

    def test_one_is_found_again_and_says_how_it_ended(self, engine, tmp_path):
        code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['SAID']); exit(4)"
        resources = Resources(cpus_per_rank=3)
        request = JobRequest(
            [sys.executable, "-c", code], tmp_path, {"SAID": "hello"}, resources, log_name="log"
        )
        job = engine.submit_job(request)
        wait_for(lambda: job.poll() == "ended")
        assert job.exit_status == 4
        assert (tmp_path / "log").read_text() == "3 hello\n"
        again = engine.find_job(json.loads(json.dumps(job.record)))
        assert (again.poll(), again.exit_status) == ("ended", None)
        assert engine.find_job({"kind": "letter"}) is None

    def test_one_outlives_its_engine_and_can_be_ended_by_the_next(self, tmp_path):
        first = open_engine(LOCAL, RunFolder(tmp_path))
        job = first.submit_job(JobRequest(SLEEP, tmp_path))
        first.close()
        second = open_engine(LOCAL, RunFolder(tmp_path))
        again = second.find_job(job.record)
        assert again.poll() == "running"
        again.cancel()
        assert job.poll() == again.poll() == "ended"
        assert job.exit_status == -signal.SIGTERM
        second.close()

    def test_one_that_cannot_be_started_is_one_line(self, engine, tmp_path):
        with pytest.raises(ExecutionError, match=r"no-such-program cannot be started in .*: No"):
            engine.submit_job(JobRequest(["no-such-program"], tmp_path))


@WITH_PARSL
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # parsl's sockets
class TestJobsOfAScheduler:
    SECTION = ExecutionSection(engine="parsl", provider="slurm", partition="long")

    def test_one_runs_in_its_folder_and_is_found_again(self, slurm, tmp_path):
        code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['SAID'])"
        resources = Resources(nodes=2, ranks=32, cpus_per_rank=2, walltime="03:00:00")
        command = [sys.executable, "-c", code]
        request = JobRequest(command, tmp_path, {"SAID": "a word"}, resources, "dft-7")
        folder = RunFolder(tmp_path)
        job = submit_scheduler_job(self.SECTION, folder, request)
        again = SchedulerJob(self.SECTION, folder, json.loads(json.dumps(job.record)))
        wait_for(lambda: again.poll() == "ended")
        assert (tmp_path / "job.log").read_text() == "2 a word\n"
        (script,) = (slurm / "jobs").glob("*.script")
        for line in ("nodes=2", "ntasks-per-node=16", "partition=long", "time=180", "dft-7"):
            assert line in script.read_text()

    def test_one_is_taken_from_the_scheduler_where_that_is_asked(self, slurm, tmp_path):
        job = submit_scheduler_job(self.SECTION, RunFolder(tmp_path), JobRequest(SLEEP, tmp_path))
        wait_for(lambda: job.poll() == "running")
        job.cancel()
        wait_for(lambda: SchedulerJob(self.SECTION, None, job.record).poll() == "ended")

    def test_a_scheduler_that_takes_none_is_one_line(self, slurm, tmp_path):
        (slurm / "plan").write_text('{"sbatch": ["error"]}')
        with pytest.raises(ExecutionError, match="takes no job from") as error:
            submit_scheduler_job(self.SECTION, RunFolder(tmp_path), JobRequest(SLEEP, tmp_path))
        assert "\n" not in str(error.value)

    def test_those_of_a_dead_driver_are_cancelled_and_no_others(self, slurm, tmp_path):
        folder = RunFolder(tmp_path)
        jobs = [
            submit_scheduler_job(self.SECTION, folder, JobRequest(SLEEP, tmp_path))
            for _ in range(2)
        ]
        wait_for(lambda: all(job.poll() == "running" for job in jobs))
        gone = {**processes.identity(), "pid": 2**22 + 1}
        mine = jobs[0].record["job"]
        write_engine_file(tmp_path, EngineRecord("parsl", "slurm", gone, (), (mine,)))
        assert end_orphans(folder, LOCAL) == 1
        wait_for(lambda: SchedulerJob(self.SECTION, folder, jobs[0].record).poll() == "ended")
        assert jobs[1].poll() == "running"
        jobs[1].cancel()


class TestWalltimes:
    def test_a_block_with_less_time_left_than_a_batch_takes_gets_no_more(self):
        walltimes = Walltimes("00:10:00")
        walltimes.began("0", 100.0)
        walltimes.began("0", 400.0)
        walltimes.began("1", 300.0)
        assert walltimes.too_short(["0", "1"], 120.0, 549.0) == set()
        assert walltimes.too_short(["0", "1"], 120.0, 551.0) == {"0"}
        assert walltimes.too_short(["0", "1"], 330.0, 551.0) == {"0", "1"}
        assert walltimes.too_short(["new"], 120.0, 551.0) == set()

    def test_this_machine_has_none(self):
        walltimes = Walltimes("")
        walltimes.began("0", 0.0)
        assert walltimes.too_short(["0"], 1e9, 1e9) == set()


class TestLocalEngine:
    def test_it_writes_whom_it_started_and_removes_that_in_the_end(self, tmp_path):
        from gasearch.execution.contract import PotentialSource

        folder = RunFolder(tmp_path)
        engine = open_engine(ExecutionSection(workers=2), folder)
        source = PotentialSource("pmmcs", tmp_path, {})
        order = Order(source, folder, folder.worker_log, 2, 1, 60.0, lambda: None)
        executor = engine.executor(order)
        assert read_engine_file(tmp_path).processes == []
        executor._workers.append(type(executor._workers)() or _idle(source, tmp_path))
        found = wait_for(lambda: read_engine_file(tmp_path).processes)
        assert is_the_same(found[0])
        assert found[0]["role"] == "worker"
        engine.close()
        assert not psutil.pid_exists(found[0]["pid"])
        assert not (tmp_path / "engine.json").exists()


def _idle(source, folder):
    from gasearch.execution.local.process import WorkerProcess

    return WorkerProcess(source, folder / "log")


@WITH_PARSL
class TestSites:
    def test_a_worker_finds_this_python_and_has_one_thread(self):
        lines = start_lines(ExecutionSection(worker_init="module load x"), for_workers=True)
        assert lines.splitlines()[0] == "module load x"
        assert f"export PATH={Path(sys.executable).parent}" in lines
        assert "export OMP_NUM_THREADS=1" in lines

    def test_gpus_have_one_worker_each(self, tmp_path):
        section = ExecutionSection(engine="parsl", gpus_per_node=4, workers=9)
        executor = make_site(section, RunFolder(tmp_path)).executor
        assert executor.available_accelerators == ["0", "1", "2", "3"]
        assert executor.max_workers_per_node == 4

    @pytest.mark.parametrize("provider", ["slurm", "pbs", "lsf"])
    def test_schedulers_get_what_run_toml_says(self, provider):
        section = ExecutionSection(
            engine="parsl",
            provider=provider,
            partition="gpu",
            account="me",
            nodes=2,
            max_blocks=3,
            walltime="02:00:00",
            gpus_per_node=4,
            cpus_per_node=32,
        )
        made = make_provider(section)
        assert (made.nodes_per_block, made.max_blocks, made.walltime) == (2, 3, "02:00:00")
        assert "gpu" in (getattr(made, "partition", ""), getattr(made, "queue", ""))
        job = make_provider(section, Resources(nodes=1, ranks=16, walltime="10:00:00"))
        assert (job.nodes_per_block, job.walltime) == (1, "10:00:00")

    def test_a_config_of_the_users_is_taken_with_its_errors_told(self, tmp_path):
        (tmp_path / "mine.py").write_text(
            "from parsl.config import Config\n"
            "from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor\n"
            "def good():\n"
            "    return Config([HighThroughputExecutor(\n"
            "        address='127.0.0.1', max_workers_per_node=3)])\n"
            "def threads():\n"
            "    return Config([ThreadPoolExecutor()])\n"
            "def broken():\n"
            "    raise KeyError('account')\n"
            "def nothing():\n"
            "    return None\n"
        )
        folder = RunFolder(tmp_path)

        def site(name):
            section = ExecutionSection(engine="parsl", provider=f"./mine.py:{name}")
            return make_site(section, folder)

        good = site("good")
        assert good.is_local
        assert good.executor.max_workers_per_node == 3
        assert "gasearch.execution.parsl.guard" in good.executor.launch_cmd
        assert good.executor.block_error_handler.__name__ == "noop_error_handler"
        problems = {
            "threads": "needs one executor",
            "nothing": "NoneType, not a",
            "broken": "fails: KeyError: 'account'",
        }
        for name, problem in problems.items():
            with pytest.raises(Exception, match=problem) as error:
                site(name)
            assert "\n" not in str(error.value)

    def test_a_missing_parsl_is_one_line(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "parsl", None)
        with pytest.raises(ExecutionError, match=r'no Parsl here; .*pip install "gasearch\[parsl'):
            open_engine(ExecutionSection(engine="parsl"), RunFolder(tmp_path))
