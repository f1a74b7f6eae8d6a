"""Run folders whose GPAW is `fake_gpaw.py` of the tests' data: what it shall do, and did."""

import json
import sys

from places import DATA

from gasearch.run.folder import RunFolder
from gasearch.search.session import Session

FAKE = DATA / "fake_gpaw.py"


def search_with_fake_gpaw(folder, make_run, budget):
    """Search a small cell; return its run folder."""
    command = [sys.executable, str(FAKE)]
    path = make_run(folder, budget=budget, **{"dft.gpaw": {"command": command}})
    Session(RunFolder(path)).run()
    return path


def behave(folder, *what):
    """Say what each attempt of a job shall do, the last for all further ones."""
    (folder / "behaviour.json").write_text(json.dumps(what))


def starts(folder):
    """Return [candidate, rung, first mixing parameter, what happened] of each start."""
    path = folder / "starts.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []
