"""What a run folder says: run.toml, the host, operators, and the run that it holds already."""

from __future__ import annotations

from collections.abc import Iterator

from gasearch.doctor.checks import Check, passed, warned
from gasearch.search.session import Session
from gasearch.store.errors import OlderSchemaError


def host(session: Session) -> Iterator[Check]:
    """Say what crystal is searched."""
    found = session.host
    total = sum(found.n_distinct(composition) for composition in session.compositions)
    size = f"{found.declaration.name}, {len(found.atoms)} sites"
    yield passed("host", f"{size}, {total:,} distinct decorations searched")


def operators(session: Session) -> Iterator[Check]:
    """Say which operators were loaded."""
    yield passed("operators", ", ".join(operator.name for operator in session.operators))


def recorded_run(session: Session) -> Iterator[Check]:
    """Say whether the run in the folder can be resumed with this run.toml."""
    name, folder = "run", session.folder
    if not folder.is_started:
        yield passed(name, "not started yet")
        return
    driver = folder.driver()
    try:
        with folder.open_store() as store:
            session.refuse_changes(store.run)
            counts = store.counts()
    except OlderSchemaError as error:
        yield warned(
            name, f"{error.path} {error.found}", "gasearch run upgrades it, after a backup"
        )
        return
    done = f"{counts.relaxed + counts.failed} of {session.settings.search.budget} candidates"
    if driver is not None:
        yield warned(name, f"{done}; {driver} searches it now", "it cannot be started twice")
    else:
        yield passed(name, f"{done}; it can be resumed")
