"""Status files: whole or refused, in the form that older versions wrote; one runner at a time."""

import json

import pytest

from gasearch.dft.errors import JobFolderError, JobRunningError
from gasearch.dft.jobs.folders import JobFolder, Status, job_folders, one_runner

STATUS = Status(1, "gpaw-x", "gpaw", "relax", "prepared", {"code": "gpaw"})


@pytest.fixture
def job(tmp_path):
    job = JobFolder.of(tmp_path, 1, "gpaw-x")
    job.make()
    return job


def test_a_status_comes_back_as_it_was_written(job):
    written = job.write(STATUS)
    assert job.status() == written
    changed = job.change(state="failed", reason="why", tried=("a", "b"), retry=2)
    assert (changed.tried, changed.retry) == (("a", "b"), 2)
    assert job.status() == changed
    assert [path.name for path in job.path.iterdir()] == ["status.json"]
    document = json.loads(job.status_file.read_text())
    assert document.keys() == {"version", "candidate", "level", "code", "task", "state", "settings",
                               "attempt", "rung", "reason", "tried", "process", "charge_order",
                               "found", "energy_eV", "created", "changed"}  # fmt: skip
    assert document["rung"] == 2


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 2, "state": "prepared"}'])
def test_a_damaged_status_is_one_clear_line(job, text):
    job.status_file.write_text(text)
    with pytest.raises(JobFolderError, match="cannot be used"):
        job.status()


def test_jobs_are_listed_by_the_number_of_their_candidate(tmp_path):
    for number in (10, 9, 1):
        job = JobFolder.of(tmp_path, number, "gpaw-x")
        job.make()
        job.write(STATUS)
    assert [job.path.name for job in job_folders(tmp_path)] == ["1-gpaw-x", "9-gpaw-x", "10-gpaw-x"]


def test_a_second_runner_is_refused(tmp_path):
    with (
        one_runner(tmp_path),
        pytest.raises(JobRunningError, match="computed already"),
        one_runner(tmp_path),
    ):
        pass
