"""Where the population lives: the locks of its file system, or a server and the rights there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from gasearch.doctor.checks import Check, failed, passed, warned
from gasearch.errors import GasearchError
from gasearch.run.folder import RunFolder
from gasearch.run.location import read_record
from gasearch.store.location import ServerPlace
from gasearch.store.sqlite.locking_probe import probe

_NAME = "locks"
_SERVER = "PostgreSQL"
_NO_SCHEMA = "not_there_yet"
_SLOW_S = 0.05
_RIGHTS = """
SELECT current_setting('server_version'), current_user, current_database(),
    to_regnamespace(%(schema)s) IS NOT NULL,
    has_database_privilege(current_database(), 'CREATE'),
    COALESCE(has_schema_privilege(to_regnamespace(%(schema)s), 'USAGE')
        AND has_schema_privilege(to_regnamespace(%(schema)s), 'CREATE'), false)
"""


def locks(folder: RunFolder) -> Iterator[Check]:
    """Say whether the file system of the database locks files."""
    found = probe(folder.path)
    if not found.is_reliable:
        problem, _, advice = str(found).rstrip(".").rpartition(": ")
        yield failed(_NAME, problem, advice)
    elif found.is_network:
        yield warned(
            _NAME,
            f"{found}; what other machines do to each other was not tried",
            "start each search on one machine only, or use a local disk or PostgreSQL",
        )
    else:
        yield passed(_NAME, str(found))


def server(folder: RunFolder) -> Iterator[Check]:
    """Say whether the server of [store] answers, and what this user may do there."""
    from gasearch.store.postgresql.connection import connect, translated

    store, record = folder.settings().store, read_record(folder.path)
    schema = record.schema if record else store.schema_name or _NO_SCHEMA
    place = ServerPlace(store.url, schema)
    try:
        with (
            translated(place),
            contextlib.closing(connect(place, busy_s=5, read_only=True)) as connection,
        ):
            began_s = time.perf_counter()
            row = connection.execute(_RIGHTS, {"schema": schema}).fetchone()
            took_s = time.perf_counter() - began_s
    except GasearchError as error:
        advice = "is it up, and reached from here? Passwords come from PGPASSWORD or ~/.pgpass"
        yield failed(_SERVER, error, advice)
        return
    version, user, database, is_there, may_make, may_use = row
    answer = f"{version}, database {database}, user {user}, answers in {1000 * took_s:.0f} ms"
    if is_there and not may_use:
        advice = f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}"
        yield failed(_SERVER, f"{answer}: no rights in schema {schema}", advice)
    elif not is_there and not may_make:
        advice = f"GRANT CREATE ON DATABASE {database} TO {user}"
        yield failed(_SERVER, f"{answer}: it may not make a schema", advice)
    elif took_s > _SLOW_S:
        yield warned(_SERVER, answer, "each commit waits for it: run the search nearer to it")
    else:
        yield passed(_SERVER, answer)
