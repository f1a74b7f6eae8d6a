"""Whole searches on a PostgreSQL server that restarts, and whose drivers are killed."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import ase.db
import pytest
from ase.io import read
from places import KILL_DRIVER
from searched import record
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import Engine
from typer.testing import CliRunner

from gasearch.cli.app import app
from gasearch.errors import UsageError
from gasearch.run.folder import NoRunError, RunFolder
from gasearch.search.check import check_run
from gasearch.search.session import Session
from gasearch.store.copying import NotWholeError, copy_run
from gasearch.store.errors import NoDatabaseError, SearchRunningError
from gasearch.store.location import ServerPlace
from gasearch.store.opening import driver_lock
from gasearch.store.population_store import PopulationStore
from gasearch.store.sqlite.database import Database
from gasearch.testing.store import create, fill

SEARCH = {"reproducible": True, "in_flight": 2}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, make_run):
    """A search in a file."""
    folder = make_run(tmp_path_factory.mktemp("file") / "run", search=SEARCH, budget=12)
    assert Session(RunFolder(folder)).run() == "budget"
    return folder


@pytest.fixture
def on_server(tmp_path, make_run, postgresql):
    """The run folder of a search that is to be on the server."""
    store = {"url": postgresql.url, "backups": 0}
    return make_run(tmp_path / "My run", search=SEARCH, budget=12, store=store)


def gasearch(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0
    return done.output


@pytest.fixture
def restarts(postgresql, monkeypatch):
    """Commits of writers at which the server restarts: {number: "before" or "after"}."""
    plan, state = {}, {"n": 0, "writing": False}
    commit = PGDialect_psycopg.do_commit

    def restart():
        postgresql.control("restart", "-m", "immediate")

    def executed(connection, cursor, statement, *_):
        state["writing"] = state["writing"] or "pg_advisory_xact_lock" in statement

    def interrupted(self, connection):
        n = state["n"] = state["n"] + state["writing"]
        moment = plan.pop(n, None) if state["writing"] else None
        state["writing"] = False
        if moment == "before":
            restart()
        commit(self, connection)
        if moment == "after":
            restart()
            connection.execute("SELECT 1")  # fails, as the answer to the commit would have

    event.listen(Engine, "before_cursor_execute", executed)
    monkeypatch.setattr(PGDialect_psycopg, "do_commit", interrupted)
    yield plan
    event.remove(Engine, "before_cursor_execute", executed)


def test_a_search_goes_on_through_restarts_of_its_server(on_server, undisturbed, restarts):
    restarts |= {2: "before", 4: "after", 7: "before", 8: "after", 11: "after"}
    assert Session(RunFolder(on_server)).run() == "budget"
    assert restarts == {}
    assert record(on_server) == record(undisturbed)
    assert check_run(RunFolder(on_server), replay=True) == []


def test_killed_at_its_commits_a_search_ends_as_if_it_had_never_been(on_server, undisturbed):
    kills = [[n, moment] for n in (1, 4) for moment in ("before", "after")]
    (on_server / "kills.json").write_text(json.dumps(kills))
    done = subprocess.run(
        [sys.executable, str(KILL_DRIVER), str(on_server)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout)[str(on_server)]
    assert codes == [-signal.SIGKILL] * 4 + [0]
    assert record(on_server) == record(undisturbed)
    assert check_run(RunFolder(on_server), replay=True) == []


def test_all_commands_work_and_leave_no_database_in_the_folder(on_server, tmp_path):
    folder = RunFolder(on_server)
    assert folder.place is None
    assert not folder.is_started
    with pytest.raises(NoRunError, match="was not started yet"):
        folder.open_store()
    with driver_lock(folder.claim_place()), pytest.raises(NoRunError, match="is just starting"):
        folder.open_store()
    said = gasearch("run", on_server)
    assert "done (budget): schema run_my_run_" in said
    assert json.loads(gasearch("status", on_server, "--json"))["relaxed"] == 12
    assert len(json.loads(gasearch("best", on_server, "-n", "3", "--json"))) == 3
    assert json.loads(gasearch("hull", on_server, "--json"))["points"]
    assert "whole" in gasearch("check", on_server, "--replay")
    assert "it is done (budget)" in gasearch("run", on_server)
    gasearch("export", on_server, "--output", tmp_path / "x.db")
    assert ase.db.connect(tmp_path / "x.db").count() == 12
    gasearch("export", on_server, "--output", tmp_path / "x.extxyz")
    assert len(read(tmp_path / "x.extxyz", ":")) == 12
    names = {path.name for path in on_server.iterdir()}
    assert "store.json" in names
    assert not any(name.startswith(("search.db", "backups")) for name in names)
    with driver_lock(folder.place), pytest.raises(SearchRunningError, match="this process"):
        Session(folder).run()


class TestCopying:
    def test_a_run_goes_to_a_server_and_back(self, undisturbed, tmp_path, make_run, postgresql):
        path = Path(shutil.copytree(undisturbed, tmp_path / "run"))
        folder, budget = RunFolder(path), {"search": SEARCH, "budget": 12}
        reference = record(path)
        said = gasearch("store", "copy", path, "--to", postgresql.url)
        assert f'url = "{postgresql.url}"' in said
        assert "12 candidates" in said
        assert folder.place == folder.database  # until run.toml says otherwise

        server = {"url": postgresql.url, "backups": 0}
        make_run(path, **budget | {"store": server})
        assert isinstance(folder.place, ServerPlace)
        assert record(path) == reference
        assert "whole" in gasearch("check", path, "--replay")
        make_run(path, **budget | {"store": server, "budget": 14})
        gasearch("run", path)
        longer = record(path)
        assert (len(longer), longer[:12]) == (14, reference)

        make_run(path, **budget)
        with pytest.raises(UsageError, match=r"put url = .* back into \[store\]"):
            gasearch("status", path)
        make_run(path, **budget | {"store": server})
        with pytest.raises(UsageError, match="move it away"):
            gasearch("store", "copy", path, "--to", "sqlite")
        folder.database.unlink()
        assert "take url" in gasearch("store", "copy", path, "--to", "sqlite")
        make_run(path, **budget | {"budget": 16})
        assert record(path) == longer
        assert ase.db.connect(folder.database).count("relaxed=1") == 14
        gasearch("run", path)
        assert record(path)[:14] == longer
        assert "whole" in gasearch("check", path, "--replay")

        make_run(path, **budget | {"store": server})
        with pytest.raises(UsageError, match="has gone on since it was copied"):
            gasearch("status", path)

    def test_a_url_does_not_silently_begin_another_search(
        self, undisturbed, tmp_path, make_run, postgresql
    ):
        path = Path(shutil.copytree(undisturbed, tmp_path / "run"))
        for schema in ({}, {"schema_name": "elsewhere"}):
            make_run(path, search=SEARCH, store={"url": postgresql.url} | schema)
            for attempt in (Session(RunFolder(path)).run, RunFolder(path).open_store):
                with pytest.raises(UsageError, match="gasearch store copy"):
                    attempt()
        place = postgresql.place()
        create(place).close()
        make_run(path, search=SEARCH, store={"url": place.url, "schema_name": place.schema})
        with pytest.raises(UsageError, match=r"is in search\.db"):
            RunFolder(path).open_store()

    def test_a_schema_that_is_gone_is_not_made_anew(self, on_server, postgresql):
        Session(RunFolder(on_server)).run()
        place = RunFolder(on_server).place
        postgresql.sql(f"DROP SCHEMA {place.schema} CASCADE")
        with pytest.raises(NoDatabaseError, match="does not hold the search"):
            Session(RunFolder(on_server)).run()

    @pytest.mark.parametrize("back", [False, True])
    def test_every_row_is_copied(self, back, tmp_path, postgresql):
        there, here = postgresql.place(), tmp_path / "search.db"
        source, target = (there, here) if back else (here, there)
        with create(source) as store:
            fill(store, 24)
        copied = copy_run(source, target)
        assert copied.n_candidates == 25
        again = copy_run(target, tmp_path / "again.db")
        assert again == copied
        first = here if not back else copy_of(there, tmp_path / "first.db")
        assert rows(first) == rows(tmp_path / "again.db")
        with PopulationStore.open(target) as store:
            assert len(store.extras()) == 6
            fill(store, 6)  # keys go on from those that were copied

    @pytest.mark.parametrize("back", [False, True])
    def test_a_copy_that_fails_or_is_changed_leaves_nothing(
        self, back, tmp_path, postgresql, monkeypatch
    ):
        there, here = postgresql.place(), tmp_path / "search.db"
        source, target = (there, here) if back else (here, there)
        with create(source) as store:
            fill(store, 3)
        never_the_same = lambda digest, rows: digest.update(os.urandom(8))  # noqa: E731
        monkeypatch.setattr("gasearch.store.copying._add", never_the_same)
        with pytest.raises(NotWholeError, match="came out changed"):
            copy_run(source, target)
        monkeypatch.undo()
        assert not there_is(target, postgresql)
        copy_run(source, target)

    def test_a_copy_that_is_killed_leaves_nothing(self, tmp_path, postgresql):
        here, there = tmp_path / "search.db", postgresql.place()
        with create(here) as store:
            fill(store, 6)
        for source, target in ((here, there), (there, tmp_path / "back.db")):
            code = (
                "import os\nfrom pathlib import *\n"
                "from gasearch.store import copying\n"
                "from gasearch.store.location import ServerPlace\n"
                "make, n = copying._chunks, []\n"
                "def chunks(connection, table):\n"
                "    if table.name == 'event' and n.append(1) is None and len(n) == 2:\n"
                "        os.kill(os.getpid(), 9)\n"
                "    return make(connection, table)\n"
                "copying._chunks = chunks\n"
                f"copying.copy_run({source!r}, {target!r})\n"
            )
            done = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
            assert done.returncode == -signal.SIGKILL
            assert not there_is(target, postgresql)
            copy_run(source, target)
            assert there_is(target, postgresql)
        left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
        assert left == []

    def test_a_run_that_is_driven_is_not_copied(self, tmp_path, postgresql):
        create(tmp_path / "search.db").close()
        with driver_lock(tmp_path / "search.db"), pytest.raises(SearchRunningError):
            copy_run(tmp_path / "search.db", postgresql.place())

    def test_a_damaged_run_is_not_copied(self, tmp_path, postgresql):
        path, target = tmp_path / "search.db", postgresql.place()
        with create(path) as store:
            fill(store, 3)
        connection = sqlite3.connect(path)
        connection.execute("UPDATE structure SET cell = zeroblob(72) WHERE counts_for = 2")
        connection.commit()
        connection.close()
        with pytest.raises(NotWholeError, match=r"'cell' do not match.*gasearch check"):
            copy_run(path, target)
        assert not there_is(target, postgresql)


def copy_of(place, path):
    copy_run(place, path)
    return path


def rows(path):
    connection = sqlite3.connect(path)
    names = connection.execute("SELECT name FROM sqlite_master WHERE type='table' ORDER BY name")
    found = {
        name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
        for (name,) in names.fetchall()
    }
    connection.close()
    assert len(found) > 8
    return found


def there_is(place, postgresql):
    if isinstance(place, Path):
        return place.exists()
    query = f"SELECT count(*) FROM pg_namespace WHERE nspname = '{place.schema}'"
    return postgresql.sql(query) == "1"


def test_a_file_needs_no_driver_of_postgresql(tmp_path):
    code = (
        "import sys\nfrom gasearch.testing.store import create\nfrom pathlib import Path\n"
        f"create(Path({str(tmp_path / 'search.db')!r})).close()\n"
        "print([name for name in sys.modules if name.startswith('psycopg')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert Database(tmp_path / "search.db").place == tmp_path / "search.db"
