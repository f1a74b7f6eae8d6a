"""A search that several files look at; they change nothing in it."""

import pytest

from gasearch.run.folder import RunFolder
from gasearch.search.session import Session


@pytest.fixture(scope="session")
def finished(tmp_path_factory, make_run):
    """A search of all 16 decorations of a small cell."""
    folder = make_run(tmp_path_factory.mktemp("run") / "all", budget=100)
    Session(RunFolder(folder)).run()
    return folder
