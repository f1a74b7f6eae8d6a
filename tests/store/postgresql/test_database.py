"""A population on a PostgreSQL server: what is refused, who drives it, and servers that go away."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import Engine

from gasearch.store import migrate, schema
from gasearch.store.checks.check import check_store
from gasearch.store.errors import (
    BusyError,
    DatabaseExistsError,
    DriverLostError,
    ForeignFileError,
    NewerSchemaError,
    NoDatabaseError,
    OlderSchemaError,
    SearchRunningError,
    ServerError,
    WriteFailedError,
)
from gasearch.store.location import Place, ServerPlace, StoreUrlError, checked_schema, checked_url
from gasearch.store.opening import driver_lock, driver_of
from gasearch.store.population_store import PopulationStore
from gasearch.store.postgresql.connection import advisory_key, connect
from gasearch.store.postgresql.lock import ServerLock
from gasearch.store.postgresql.schema import differences
from gasearch.testing.postgresql import TestServer
from gasearch.testing.store import create, example_proposal, fill, propose_and_lease, record

SECRET = "geheim-4711"
HOLDER = f"process {os.getpid()} on {os.uname().nodename}"


@pytest.fixture
def place(postgresql: TestServer) -> ServerPlace:
    return postgresql.place()


@pytest.fixture
def store(place: ServerPlace) -> Iterator[PopulationStore]:
    with create(place) as store:
        yield store


def add(store: PopulationStore) -> None:
    store.batch().propose([example_proposal(store.n_candidates + 1)]).commit()


# --- addresses


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://me:{SECRET}@host/db",
        f"postgresql://me:{SECRET}@host/db",
        f"postgresql://host/db?user=me&password={SECRET}",
        f"postgresql://host/db?sslPassword={SECRET}",
        f"mysql://me:{SECRET}@host/db",
        f"postgresql+asyncpg://me@host/{SECRET}",
        f"sqlite:///{SECRET}",
        f"me:{SECRET}@host",
        f"postgresql+psycopg://me:{SECRET}@host:port/db",
    ],
)
def test_an_address_that_is_refused_is_not_repeated(url: str) -> None:
    with pytest.raises(StoreUrlError) as caught:
        checked_url(url)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_addresses_have_one_form() -> None:
    assert checked_url("postgresql://me@host/db") == "postgresql+psycopg://me@host/db"
    assert checked_url("postgresql+psycopg:///?service=site") == (
        "postgresql+psycopg:///?service=site"
    )


@pytest.mark.parametrize("name", ["", "Run", "1run", "a b", 'a";--', "pg_run", "a" * 64])
def test_odd_schema_names_are_refused(name: str) -> None:
    with pytest.raises(StoreUrlError, match="small letters"):
        checked_schema(name)


# --- what is not opened


def test_an_empty_place_holds_no_run(place: ServerPlace) -> None:
    with pytest.raises(NoDatabaseError, match=rf"schema {place.schema} of .* holds no run"):
        PopulationStore.open(place)


def test_a_schema_of_another_program_is_left_alone(
    postgresql: TestServer, place: ServerPlace
) -> None:
    postgresql.sql(f"CREATE SCHEMA {place.schema}; CREATE TABLE {place.schema}.event (id int)")
    with pytest.raises(NoDatabaseError):
        PopulationStore.open(place)
    with pytest.raises(DatabaseExistsError, match="is not empty"):
        create(place)
    postgresql.sql(f"CREATE TABLE {place.schema}.alembic_version (version_num text)")
    with pytest.raises(ForeignFileError, match="another program"):
        PopulationStore.open(place)


def test_an_empty_schema_of_an_administrator_is_used(
    postgresql: TestServer, place: ServerPlace
) -> None:
    postgresql.sql(f"CREATE SCHEMA {place.schema}")
    create(place).close()
    assert check_store(place) == []


def test_a_run_is_never_replaced(store: PopulationStore) -> None:
    add(store)
    with pytest.raises(DatabaseExistsError, match="is not empty"):
        create(store.place)
    assert store.n_candidates == 1


def test_a_failed_creation_leaves_nothing(
    place: ServerPlace, postgresql: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gasearch.store.population_store.hashes", lambda columns: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        create(place)
    count = f"SELECT count(*) FROM pg_namespace WHERE nspname = '{place.schema}'"
    assert postgresql.sql(count) == "0"


def test_runs_share_a_database_and_know_nothing_of_each_other(postgresql: TestServer) -> None:
    one, two = postgresql.place(), postgresql.place()
    with create(one) as first, create(two) as second, driver_lock(one), driver_lock(two):
        add(first)
        assert (first.n_candidates, second.n_candidates) == (1, 0)
        assert first.uuid != second.uuid


def test_the_socket_leads_to_the_same_run(postgresql: TestServer, store: PopulationStore) -> None:
    assert isinstance(store.place, ServerPlace)
    same = ServerPlace(checked_url(postgresql.socket_url), store.place.schema)
    with PopulationStore.open(same, read_only=True) as other:
        assert other.uuid == store.uuid


def test_text_is_sorted_as_sqlite_sorts_it(store: PopulationStore) -> None:
    names = ["a", "B", "_", "ä", "A1", "a-b"]
    store.batch().propose(
        example_proposal(n, composition=name) for n, name in enumerate(names, start=1)
    ).commit()
    assert [row.composition for row in store.by_composition()] == sorted(names)


def test_a_server_makes_no_backups(store: PopulationStore, tmp_path: Path) -> None:
    assert store.backup_if_due(tmp_path / "backups", 0.0, 3) is None
    assert not (tmp_path / "backups").exists()
    with pytest.raises(NoDatabaseError, match="leave it to the server"):
        store.backup(tmp_path / "a.db")


# --- passwords


def test_a_password_comes_from_the_environment_and_is_never_told(
    postgresql: TestServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    user = "guarded"
    postgresql.sql(f"CREATE ROLE {user} LOGIN PASSWORD '{SECRET}'")
    postgresql.sql(f"GRANT CREATE ON DATABASE postgres TO {user}")
    rules = postgresql.folder / "data" / "pg_hba.conf"
    line = f"host all {user} 127.0.0.1/32 scram-sha-256\n"
    rules.write_text(line + rules.read_text())
    postgresql.control("reload")
    url = postgresql.url.replace(f"//{postgresql.user}@", f"//{user}@")
    place = ServerPlace(checked_url(url), "guarded_run")
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("PGPASSWORD", SECRET)
    with driver_lock(place), create(place) as store:
        fill(store, 3)
        assert SECRET not in str(store.run.settings) + str(store.run.operational)
    assert check_store(place) == []
    monkeypatch.setenv("PGPASSWORD", f"{SECRET}-wrong")
    for attempt in (lambda: PopulationStore.open(place), lambda: driver_of(place)):
        with pytest.raises(ServerError, match="password authentication failed") as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert SECRET not in str(caught.value)
    monkeypatch.delenv("PGPASSWORD")
    with pytest.raises(ServerError, match=r"PGPASSWORD or ~/\.pgpass"):
        PopulationStore.open(place)
    assert SECRET not in caplog.text


# --- one driver


@contextlib.contextmanager
def other_driver(place: Place) -> Iterator[ServerLock]:
    """Hold the lock by another session, of which this process knows nothing when it drives."""
    assert isinstance(place, ServerPlace)
    lock = ServerLock(place)
    assert lock.take() is None
    try:
        yield lock
    finally:
        lock.give_back()


@contextlib.contextmanager
def process(code: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a program for as long as the block lasts; with it comes its first line."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout is not None
        try:
            yield made, made.stdout.readline().strip()
        finally:
            made.kill()


def test_a_second_driver_is_refused_until_the_first_is_killed(store: PopulationStore) -> None:
    place = store.place
    assert driver_of(place) is None
    code = (
        "import time\nfrom gasearch.store.location import ServerPlace\n"
        "from gasearch.store.postgresql.lock import ServerLock\n"
        f"with ServerLock({place!r}):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    with process(code) as (other, _):
        holder = f"process {other.pid} on {os.uname().nodename}"
        assert driver_of(place) == holder
        with pytest.raises(SearchRunningError, match=holder), driver_lock(place):
            pass
        other.kill()
        other.wait()
        with driver_lock(place):
            add(store)
            assert driver_of(place) == HOLDER
    assert driver_of(place) is None


def test_one_process_drives_once(place: ServerPlace) -> None:
    with driver_lock(place):
        with pytest.raises(SearchRunningError, match="this process"), driver_lock(place):
            pass
        assert driver_of(place) == HOLDER


def sessions(place: Place) -> str:
    """Return SQL for the sessions that hold the driver lock of a place."""
    assert isinstance(place, ServerPlace)
    key = advisory_key(place, "driver") % 2**64
    return (
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted "
        f"AND classid = {key >> 32} AND objid = {key % 2**32}"
    )


def end_lock_session(postgresql: TestServer, place: Place) -> None:
    held = sessions(place)
    assert postgresql.sql(f"SELECT pg_terminate_backend(pid) FROM ({held}) AS held") == "t"
    wait_for(lambda: postgresql.sql(held) == "")


def wait_for(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_lock_whose_session_is_lost_is_taken_again(
    store: PopulationStore, postgresql: TestServer
) -> None:
    with driver_lock(store.place):
        add(store)
        end_lock_session(postgresql, store.place)
        assert driver_of(store.place) is None
        add(store)
        assert driver_of(store.place) == HOLDER
    assert store.n_candidates == 2


@pytest.mark.parametrize("is_still_there", [True, False])
def test_a_driver_that_lost_its_lock_to_another_one_writes_nothing_more(
    store: PopulationStore, postgresql: TestServer, is_still_there: bool
) -> None:
    with driver_lock(store.place):
        add(store)
        end_lock_session(postgresql, store.place)
        with other_driver(store.place) as other:
            if is_still_there:
                with pytest.raises(DriverLostError, match=f"process {os.getpid()}"):
                    add(store)
            else:
                engine = create_engine(
                    "postgresql+psycopg://", creator=lambda: connect(other.place)
                )
                with engine.begin() as connection:
                    other.fence(connection)
                engine.dispose()
        if not is_still_there:
            with pytest.raises(DriverLostError, match="another one, meanwhile"):
                add(store)
    assert store.n_candidates == 1
    assert check_store(store.place) == []


def test_a_forked_child_does_not_keep_the_lock(
    store: PopulationStore, postgresql: TestServer
) -> None:
    code = (
        "import os, time\nfrom gasearch.store.location import ServerPlace\n"
        "from gasearch.store.postgresql.lock import ServerLock\n"
        f"lock = ServerLock({store.place!r})\n"
        "lock.acquire()\nchild = os.fork()\n"
        "if child:\n    print(child, flush=True)\ntime.sleep(600)\n"
    )
    with process(code) as (parent, child):
        try:
            assert driver_of(store.place) is not None
            parent.kill()
            parent.wait()
            wait_for(lambda: driver_of(store.place) is None)
        finally:
            os.kill(int(child), 9)


def test_the_server_of_the_tests_ends_with_them(tmp_path: Path) -> None:
    code = (
        "import time\nfrom gasearch.testing.postgresql import test_server\n"
        "with test_server() as server:\n    print(server.folder, flush=True)\n    time.sleep(600)\n"
    )
    with process(code) as (parent, line):
        folder = Path(line)
        first = (folder / "data" / "postmaster.pid").read_text().splitlines()[0]
        parent.kill()
        parent.wait()
        wait_for(lambda: not folder.exists() and not Path("/proc", first).exists())


# --- servers that go away


def interrupted(work: Callable[[], None]) -> Callable[[], None]:
    """Let something happen just before the next commit of a writer; return what ends that."""
    left = [work]
    writing = [False]

    def executed(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        writing[0] = "pg_advisory_xact_lock" in statement or writing[0]

    def commit(connection: Any) -> None:
        if writing[0] and left:
            left.pop()()

    event.listen(Engine, "before_cursor_execute", executed)
    event.listen(Engine, "commit", commit)

    def remove() -> None:
        event.remove(Engine, "before_cursor_execute", executed)
        event.remove(Engine, "commit", commit)

    return remove


@pytest.mark.parametrize("is_driver", [False, True])
def test_a_server_that_restarts_before_a_commit_costs_nothing(
    store: PopulationStore, postgresql: TestServer, is_driver: bool
) -> None:
    with driver_lock(store.place) if is_driver else contextlib.nullcontext():
        add(store)
        started = postgresql.sql("SELECT pg_postmaster_start_time()")
        remove = interrupted(lambda: postgresql.control("restart", "-m", "immediate"))
        try:
            add(store)
        finally:
            remove()
        assert postgresql.sql("SELECT pg_postmaster_start_time()") != started
        assert driver_of(store.place) == (HOLDER if is_driver else None)
    assert store.n_candidates == 2
    assert check_store(store.place) == []


@pytest.mark.parametrize("is_driver", [False, True])
def test_a_commit_whose_answer_is_lost_counts_once(
    store: PopulationStore,
    postgresql: TestServer,
    monkeypatch: pytest.MonkeyPatch,
    is_driver: bool,
) -> None:
    import psycopg

    answered = PGDialect_psycopg.do_commit
    lost: list[str] = []

    def lose(self: Any, connection: Any) -> None:
        answered(self, connection)
        if not lost:
            lost.append("once")
            postgresql.control("restart", "-m", "immediate")
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    with driver_lock(store.place) if is_driver else contextlib.nullcontext():
        leases = propose_and_lease(store, 2)
        batch = store.batch()
        batch.propose([example_proposal(3)])
        batch.lease([3])
        before = store.n_events
        monkeypatch.setattr(PGDialect_psycopg, "do_commit", lose)
        committed = batch.commit()
        assert lost
        assert [lease.candidate for lease in committed.leases] == [3]
        assert store.n_events == before + 2
        results = record(store, [*leases, *committed.leases]).outcomes
        assert [outcome.result for outcome in results] == [1, 2, 3]
    assert check_store(store.place) == []


def test_a_reader_says_at_once_that_the_server_is_away(
    store: PopulationStore, postgresql: TestServer
) -> None:
    with PopulationStore.open(store.place, read_only=True) as reader:
        assert reader.n_candidates == 0
        postgresql.control("stop", "-m", "immediate")
        try:
            for ask in (reader.counts, lambda: PopulationStore.open(store.place)):
                with pytest.raises(ServerError, match="check that the server runs") as caught:
                    ask()
                assert "\n" not in str(caught.value)
        finally:
            postgresql.control("start")
        assert reader.n_candidates == 0
        with pytest.raises(WriteFailedError, match="for reading only"):
            reader.batch().propose([example_proposal(1)]).commit()


def test_patience_with_a_server_has_an_end(store: PopulationStore, postgresql: TestServer) -> None:
    with PopulationStore.open(store.place, patience_s=0.3) as impatient:
        postgresql.control("stop", "-m", "immediate")
        try:
            with pytest.raises(ServerError, match="cannot be used"):
                add(impatient)
        finally:
            postgresql.control("start")
        add(impatient)
    assert store.n_candidates == 1


def test_a_writer_waits_for_its_turn_and_not_for_ever(store: PopulationStore) -> None:
    assert isinstance(store.place, ServerPlace)
    with contextlib.closing(connect(store.place)) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (advisory_key(store.place, "write"),))
        short = PopulationStore.open(store.place, busy_s=0.1, patience_s=0.2)
        with short as impatient, pytest.raises(BusyError, match="locked by another program"):
            add(impatient)
        other.rollback()
    add(store)
    assert store.n_candidates == 1


def test_without_the_right_to_write_one_line_says_so(
    store: PopulationStore, postgresql: TestServer
) -> None:
    assert isinstance(store.place, ServerPlace)
    name = store.place.schema
    postgresql.sql(f"CREATE ROLE {name} LOGIN")
    postgresql.sql(f"GRANT USAGE ON SCHEMA {name} TO {name}")
    postgresql.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {name}")
    url = store.place.url.replace(f"//{postgresql.user}@", f"//{name}@")
    with PopulationStore.open(ServerPlace(url, name)) as guest:
        assert guest.counts().candidates == 0
        with pytest.raises(WriteFailedError, match="permission denied"):
            add(guest)


# --- checks and upgrades


def test_the_record_cannot_be_changed(store: PopulationStore, postgresql: TestServer) -> None:
    assert isinstance(store.place, ServerPlace)
    for statement in ("DELETE FROM", "UPDATE"):
        rest = " SET kind = 'x'" if statement == "UPDATE" else ""
        with pytest.raises(Exception, match="only ever added"):
            postgresql.sql(f"{statement} {store.place.schema}.event{rest}")


def test_what_is_changed_behind_its_back_is_found(
    store: PopulationStore, postgresql: TestServer
) -> None:
    assert isinstance(store.place, ServerPlace)
    fill(store, 8)
    assert check_store(store.place) == []
    set_path = f"SET search_path TO {store.place.schema};"

    changes = {
        "UPDATE evaluation SET energy = energy + 1e-9 WHERE candidate = 2": "'energy'",
        "UPDATE structure SET cell = decode('00', 'hex') WHERE id = 0": "the host",
        "UPDATE extra SET attempt = 7 WHERE id = 1": "late result 1",
        "UPDATE run SET settings = '{}'": "'settings'",
    }
    postgresql.sql(set_path + ";".join(changes))
    found = "\n".join(map(str, check_store(store.place)))
    for told in changes.values():
        assert told in found
    tables = {
        "DROP INDEX evaluation_by_state": "index evaluation_by_state of evaluation is changed",
        "ALTER TABLE candidate ADD COLUMN note text": "column note of candidate is unknown",
        "ALTER TABLE extra ALTER COLUMN energy TYPE real": "column energy of extra is changed",
        "ALTER TABLE evaluation DROP CONSTRAINT evaluation_has_lease": "evaluation_has_lease",
        "ALTER TABLE event DISABLE TRIGGER event_refuses_update": "event_refuses_update is missing",
        "ALTER TABLE promotion DROP CONSTRAINT promotion_candidate_fkey": "reference of candidate",
        "DROP TABLE dft_job": "dft_job is missing",
    }
    postgresql.sql(set_path + ";".join(tables))
    found = "\n".join(map(str, check_store(store.place)))
    for told in tables.values():
        assert told in found


def test_tables_that_went_through_all_revisions_are_those_of_a_new_schema(
    postgresql: TestServer, place: ServerPlace
) -> None:
    postgresql.sql(f"CREATE SCHEMA {place.schema}")
    engine = create_engine("postgresql+psycopg://", creator=lambda: connect(place))
    with engine.begin() as connection:
        migrate.upgrade(connection, place)
        assert differences(connection) == []
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        assert version == schema.SCHEMA_VERSION
    engine.dispose()


REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "0099"
down_revision = "{old}"


def upgrade():
    with op.batch_alter_table("candidate") as batch:
        batch.add_column(sa.Column("note", sa.Text(), nullable=False, server_default="none"))
"""


def test_an_older_schema_is_upgraded_and_a_newer_one_refused(
    place: ServerPlace, postgresql: TestServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create(place) as store:
        fill(store, 2)
    (tmp_path / "rev_0099.py").write_text(REVISION.format(old=schema.SCHEMA_VERSION))
    with monkeypatch.context() as newer:
        newer.setattr(schema, "SCHEMA_VERSION", "0099")
        newer.setattr(migrate, "REVISIONS", [*migrate.REVISIONS, tmp_path])
        with pytest.raises(OlderSchemaError, match=r"older than 0099.*gasearch check"):
            PopulationStore.open(place, read_only=True)
        with other_driver(place), pytest.raises(SearchRunningError):
            PopulationStore.open(place)
        with PopulationStore.open(place) as store:
            add(store)
        notes = postgresql.sql(f"SELECT DISTINCT note FROM {place.schema}.candidate")
        assert notes == "none"
        with pytest.raises(Exception, match="only ever added"):
            postgresql.sql(f"DELETE FROM {place.schema}.event")
    with pytest.raises(NewerSchemaError, match="0099, newer than"):
        PopulationStore.open(place)
