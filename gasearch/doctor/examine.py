"""All checks of one run folder, in the order in which each can rely on those before it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from gasearch.display.tables import at_least
from gasearch.doctor import database, dft, engine, machine, potential
from gasearch.doctor.checks import Check, failed, guarded, passed, warned
from gasearch.errors import GasearchError
from gasearch.execution.devices import NoDeviceError
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.store.errors import OlderSchemaError


def examine(folder: RunFolder, with_engine: bool = True) -> Iterator[Check]:
    """Yield what each check finds, as soon as it is found.

    Parameters
    ----------
    with_engine
        Whether a worker is started and relaxes one structure, which on a cluster waits for a job.
    """
    try:
        settings = folder.settings()
    except GasearchError as error:
        yield failed("run.toml", error, "no other check is possible before this is fixed")
        return
    yield passed("run.toml", f"{folder.run_file} is valid")
    yield from machine.environment_on_path()
    yield from machine.folder_is_usable("run folder", folder.path)
    yield from machine.folder_is_usable("scratch", Path(tempfile.gettempdir()))
    if settings.store.url:
        yield from guarded("PostgreSQL", lambda: database.server(folder))
    else:
        yield from guarded("locks", lambda: database.locks(folder))
    yield from machine.scheduler_commands(settings.execution.provider)
    try:
        session = Session(folder)
    except GasearchError as error:
        yield failed("host", error, "correct [host] or [operators] of run.toml")
        return
    size = f"{session.host.declaration.name}, {len(session.host.atoms)} sites"
    n_distinct = sum(session.host.n_distinct(one) for one in session.compositions)
    number = at_least(n_distinct, is_exact=session.host.are_counted)
    yield passed("host", f"{size}, {number} distinct decorations searched")
    yield passed("operators", ", ".join(operator.name for operator in session.operators))
    yield from guarded("run", lambda: _recorded_run(session))
    yield from guarded("device", lambda: _device(session))
    yield from guarded("potential", lambda: potential.potential(session))
    if dft.is_used(session):
        yield from guarded("DFT", lambda: dft.dft(session))
    if settings.execution.engine == "parsl":
        yield from guarded("parsl", lambda: engine.parsl(session))
    if with_engine:
        yield from guarded("engine", lambda: engine.engine(session))


def _recorded_run(session: Session) -> Iterator[Check]:
    """Say whether the run in the folder can be resumed with this run.toml."""
    name, folder = "run", session.folder
    if not folder.is_started:
        yield passed(name, "not started yet")
        return
    driver = folder.driver()
    try:
        with folder.open_store() as store:
            session.refuse_changes(store.run, store.level)
            counts = store.counts()
    except OlderSchemaError as error:
        found = f"{error.path} {error.found}"
        yield warned(name, found, "gasearch run upgrades it, after a backup")
        return
    done = f"{counts.relaxed + counts.failed} of {session.settings.search.budget} candidates"
    if driver is not None:
        yield warned(name, f"{done}; {driver} searches it now", "it cannot be started twice")
    else:
        yield passed(name, f"{done}; it can be resumed")


def _device(session: Session) -> Iterator[Check]:
    asked = session.settings.execution.device
    try:
        yield passed("device", f'{session.device} for device = "{asked}"')
    except NoDeviceError as error:
        yield failed("device", error.problem, 'use device = "auto" or "cpu"')
