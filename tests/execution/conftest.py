"""What tests of executors share."""

import subprocess

import pytest
from executors import collect, results
from tasks import task

from gasearch.execution.in_process import InProcessExecutor
from gasearch.potentials.pmmcs import Pmmcs


@pytest.fixture(scope="session")
def alone():
    """Results of candidates 0 to 8, each relaxed by itself."""
    executor = InProcessExecutor(Pmmcs())
    for number in range(9):
        executor.submit(task(number))
    return results(collect(executor, 9))


@pytest.fixture
def sleeper():
    """A process that sleeps."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()
