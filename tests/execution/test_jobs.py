"""Long programs: processes of this machine, and jobs of a scheduler."""

import json
import os
import signal
import sys
from importlib.util import find_spec

import pytest
from waited import wait_for

from gasearch import processes
from gasearch.execution.contract import ExecutionError, JobRequest, Resources
from gasearch.execution.engine_file import EngineRecord, write_engine_file
from gasearch.execution.engines import end_orphans
from gasearch.execution.jobs import find_job, submit_job
from gasearch.execution.parsl.jobs import SchedulerJob, submit_scheduler_job
from gasearch.run.execution_section import ExecutionSection

LOCAL = ExecutionSection()
SLEEP = ["sleep", "600"]
WITH_PARSL = pytest.mark.skipif(
    find_spec("parsl") is None and "CI" not in os.environ, reason="parsl is not installed"
)


def test_one_is_found_again_and_says_how_it_ended(tmp_path):
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['SAID']); exit(4)"
    resources = Resources(cpus_per_rank=3)
    request = JobRequest(
        [sys.executable, "-c", code], tmp_path, {"SAID": "hello"}, resources, log_name="log"
    )
    job = submit_job(LOCAL, tmp_path, request)
    wait_for(lambda: job.poll() == "ended")
    assert job.exit_status == 4
    assert (tmp_path / "log").read_text() == "3 hello\n"
    again = find_job(LOCAL, tmp_path, json.loads(json.dumps(job.record)))
    assert (again.poll(), again.exit_status) == ("ended", None)


def test_one_can_be_ended_by_a_later_driver(tmp_path):
    job = submit_job(LOCAL, tmp_path, JobRequest(SLEEP, tmp_path))
    again = find_job(LOCAL, tmp_path, job.record)
    assert again.poll() == "running"
    again.cancel()
    assert job.poll() == again.poll() == "ended"
    assert job.exit_status == -signal.SIGTERM


def test_one_that_cannot_be_started_is_one_line(tmp_path):
    with pytest.raises(ExecutionError, match=r"no-such-program cannot be started in .*: No"):
        submit_job(LOCAL, tmp_path, JobRequest(["no-such-program"], tmp_path))


@WITH_PARSL
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # parsl's sockets
class TestJobsOfAScheduler:
    SECTION = ExecutionSection(engine="parsl", provider="slurm", partition="long")

    def test_one_runs_in_its_folder_and_is_found_again(self, slurm, tmp_path):
        code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['SAID'])"
        resources = Resources(nodes=2, ranks=32, cpus_per_rank=2, walltime="03:00:00")
        command = [sys.executable, "-c", code]
        request = JobRequest(command, tmp_path, {"SAID": "a word"}, resources, "dft-7")
        job = submit_job(self.SECTION, tmp_path, request)
        again = find_job(LOCAL, tmp_path, json.loads(json.dumps(job.record)))
        wait_for(lambda: again.poll() == "ended")
        assert (tmp_path / "job.log").read_text() == "2 a word\n"
        (script,) = (slurm / "jobs").glob("*.script")
        for line in ("nodes=2", "ntasks-per-node=16", "partition=long", "time=180", "dft-7"):
            assert line in script.read_text()

    def test_one_is_taken_from_the_scheduler_where_that_is_asked(self, slurm, tmp_path):
        job = submit_scheduler_job(self.SECTION, tmp_path, JobRequest(SLEEP, tmp_path))
        wait_for(lambda: job.poll() == "running")
        job.cancel()
        wait_for(lambda: SchedulerJob(self.SECTION, None, job.record).poll() == "ended")

    def test_a_scheduler_that_takes_none_is_one_line(self, slurm, tmp_path):
        (slurm / "plan").write_text('{"sbatch": ["error"]}')
        with pytest.raises(ExecutionError, match="takes no job from") as error:
            submit_scheduler_job(self.SECTION, tmp_path, JobRequest(SLEEP, tmp_path))
        assert "\n" not in str(error.value)

    def test_those_of_a_dead_driver_are_cancelled_and_no_others(self, slurm, tmp_path):
        jobs = [
            submit_scheduler_job(self.SECTION, tmp_path, JobRequest(SLEEP, tmp_path))
            for _ in range(2)
        ]
        wait_for(lambda: all(job.poll() == "running" for job in jobs))
        gone = {**processes.identity(), "pid": 2**22 + 1}
        mine = jobs[0].record["job"]
        write_engine_file(tmp_path, EngineRecord("parsl", "slurm", gone, (), (mine,)))
        assert end_orphans(tmp_path, LOCAL) == 1
        wait_for(lambda: SchedulerJob(self.SECTION, tmp_path, jobs[0].record).poll() == "ended")
        assert jobs[1].poll() == "running"
        jobs[1].cancel()
