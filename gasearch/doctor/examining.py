"""All checks of one run folder, in the order in which each can rely on those before it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from gasearch.doctor import database, dft, engine, machine, potential, run
from gasearch.doctor.checks import Check, failed, guarded, one_line, passed
from gasearch.errors import GasearchError
from gasearch.execution.devices import NoDeviceError
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session


def examine(folder: RunFolder, with_engine: bool = True) -> Iterator[Check]:
    """Yield what each check finds, as soon as it is found.

    Parameters
    ----------
    with_engine
        Whether a worker is started and relaxes one structure, which on a cluster waits for a job.
    """
    name = "run.toml"
    try:
        settings = folder.settings()
    except GasearchError as error:
        yield failed(name, one_line(str(error)).rstrip("."), "nothing else can be tried before")
        return
    yield passed(name, f"{folder.run_file} is valid")
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
        yield failed("host", one_line(str(error)).rstrip("."), "mend [host] or [operators]")
        return
    yield from run.host(session)
    yield from run.operators(session)
    yield from guarded("run", lambda: run.recorded_run(session))
    yield from guarded("device", lambda: _device(session))
    yield from guarded("potential", lambda: potential.potential(session))
    if dft.is_used(session):
        yield from guarded("DFT", lambda: dft.dft(session))
    if settings.execution.engine == "parsl":
        yield from guarded("parsl", lambda: engine.parsl(session))
    if with_engine:
        yield from guarded("engine", lambda: engine.engine(session))


def _device(session: Session) -> Iterable[Check]:
    asked = session.settings.execution.device
    try:
        yield passed("device", f'{session.device} for device = "{asked}"')
    except NoDeviceError as error:
        yield failed("device", error.problem, 'use device = "auto" or "cpu"')
