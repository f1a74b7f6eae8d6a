"""Relaxations for tests of executors, and workers that are forked: their start takes no seconds."""

import multiprocessing
import os

from crystals import olivine
from places import DATA

from gasearch.execution.contract import PotentialSource, RelaxationTask
from gasearch.execution.local import worker as local_worker
from gasearch.execution.parsl import worker as parsl_worker
from gasearch.relax.settings import RelaxSettings
from gasearch.store.records import Lease

POISON = 3 / 4
"""The x of structures that `batch_potentials.py` and `toy_potentials.py` misbehave for."""
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "tasks",
        "gasearch.execution.stream",
        "gasearch.potentials.pmmcs",
        "gasearch.potentials.registry",
    ]
)


def task(number, x=0.5, n_crashes=0, **settings):
    """Return a relaxation of a random decoration that was shaken a little."""
    atoms = olivine(x, seed=number, rattle=0.02)
    return RelaxationTask(Lease(number, 1, "search", n_crashes), atoms, RelaxSettings(**settings))


def source(name, **keys):
    """Return a potential of the tests' data."""
    return PotentialSource(name, DATA, {}, **keys)


class Forked:
    """A forked process, with the part of Popen that is asked of a worker."""

    def __init__(self, target, *arguments):
        self._process = _CONTEXT.Process(target=target, args=arguments, daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        return self._process.exitcode

    def kill(self):
        self._process.kill()

    def wait(self):
        self._process.join()
        return self._process.exitcode


def forked_worker(theirs, log):
    """Start a worker of the local pool that listens to a connection; it writes no log."""
    return Forked(_serve, theirs, dict(os.environ))


def _serve(connection, environment):
    os.environ.update(environment)
    local_worker.main(connection.fileno())


def structure(*arguments, **keys):
    """Return what a worker of Parsl gets of a task."""
    one = task(*arguments, **keys)
    return one.atoms, one.settings


def relax_and_hang(name, file):
    """Relax two structures as a worker of Parsl, and then one that hangs; note what came back."""
    parsl_worker.LAST_RESORT_S = 0.0
    good, bad = [structure(1), structure(2, 1.0)], [structure(3, POISON)]
    for structures, wall_limit_s in ((good, 600.0), (bad, 1.0)):
        result = parsl_worker.relax_batch(source(name), structures, 1, wall_limit_s)
        with file.open("a") as came_back:
            came_back.write(f"{len(result.relaxed)}\n")
