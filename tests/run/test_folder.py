"""Where things lie in a run folder, and how run.toml becomes a host."""

from pathlib import Path

import pytest

from gasearch.errors import UsageError
from gasearch.run.folder import NoRunError, RunFolder
from gasearch.store.sqlite.lock import DriverLock


def test_everything_lies_in_the_folder():
    folder = RunFolder(Path("here"))
    for path in (folder.run_file, folder.database, folder.backups, folder.worker_log):
        assert path.parent == Path("here")


def test_a_path_is_quoted_for_the_shell():
    assert RunFolder(Path("my run; rm")).quoted == "'my run; rm'"


class TestErrors:
    def test_no_folder(self, tmp_path):
        for call in (RunFolder(tmp_path / "a b").settings, RunFolder(tmp_path / "a b").open_store):
            with pytest.raises(NoRunError, match=r"make one with: gasearch init '.*a b'"):
                call()

    def test_a_file_instead_of_a_folder(self, tmp_path):
        (tmp_path / "run.toml").write_text("")
        with pytest.raises(NoRunError, match="is a file: name the folder that it lies in"):
            RunFolder(tmp_path / "run.toml").open_store()

    def test_a_folder_without_a_run(self, tmp_path):
        with pytest.raises(UsageError, match="holds no run"):
            RunFolder(tmp_path).open_store()
        with pytest.raises(UsageError, match=r"there is no .*run.toml; write one with"):
            RunFolder(tmp_path).settings()

    def test_a_run_that_was_not_started(self, tmp_path):
        (tmp_path / "run.toml").write_text("")
        with pytest.raises(UsageError, match="was not started yet; start it with: gasearch run"):
            RunFolder(tmp_path).open_store()

    def test_a_run_that_is_just_starting(self, tmp_path):
        (tmp_path / "run.toml").write_text("")
        with (
            DriverLock(tmp_path / "search.db"),
            pytest.raises(UsageError, match=r"is just starting \(process \d+ on "),
        ):
            RunFolder(tmp_path).open_store()

    def test_a_database_without_its_run_file(self, tmp_path):
        (tmp_path / "search.db").write_text("")
        with pytest.raises(UsageError, match="is missing, though there is a search"):
            RunFolder(tmp_path).settings()
