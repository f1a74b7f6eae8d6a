"""Whether workers start, and relax: Parsl, its provider, and one structure through the engine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from gasearch.doctor.checks import Check, failed, passed, warned
from gasearch.execution.contract import Crashed, Executor, ExecutorRequest, Finished, RelaxationTask
from gasearch.execution.engines import open_engine
from gasearch.relax.settings import RelaxSettings
from gasearch.run.execution_section import ExecutionSection
from gasearch.run.folder import RunFolder
from gasearch.search.session import Session
from gasearch.store.records import Lease

_PATIENCE_S = 600.0
_NAME = "engine"
_FEW_CALLS = 3
_SEE = "see what the potential needs there"


def parsl(session: Session) -> Iterator[Check]:
    """Say whether Parsl is there, and makes a provider of what [execution] says."""
    from gasearch.execution.parsl.providers import make_setup, require_parsl

    require_parsl()
    section = session.settings.execution
    setup = make_setup(section, session.folder.path)
    kind = type(setup.executor.provider).__name__
    most = f"{section.most_workers} workers at most"
    yield passed("parsl", f"{version('parsl')}, {kind} for {section.provider}, {most}")


def engine(session: Session) -> Iterator[Check]:
    """Start one worker, as a search would, and let it relax one structure a little.

    Its files go into a folder beside those of the run, which is removed.
    """
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(
        prefix=".doctor-", dir=session.folder.path, ignore_cleanup_errors=True
    ) as place:
        folder = RunFolder(Path(place).resolve())
        at_hand = open_engine(_small(session), folder.path)
        try:
            executor = at_hand.executor(_request(session, folder))
            atoms = session.probes()[0]
            executor.submit(RelaxationTask(Lease(1, 1), atoms, RelaxSettings(max_calls=_FEW_CALLS)))
            ended = _wait(executor, began_s + _PATIENCE_S)
            note = at_hand.workers().note
            executor.close()
        finally:
            at_hand.close()
    yield _judged(ended, time.monotonic() - began_s, note)


def _small(session: Session) -> ExecutionSection:
    """Return [execution] with one worker, whatever else it says."""
    section = session.settings.execution
    provider = section.provider
    if provider.startswith("."):
        provider = str(session.folder.path.resolve() / provider)
    least = {"workers": min(1, section.workers), "nodes": 1, "min_blocks": 0, "max_blocks": 1}
    least |= {"gpus_per_node": min(1, section.gpus_per_node)}
    return section.model_copy(update={**least, "provider": provider})


def _request(session: Session, folder: RunFolder) -> ExecutorRequest:
    request = session.executor_request()
    source = replace(request.source, limits=folder.batch_limits)
    return replace(request, source=source, folder=folder.path, log=folder.worker_log)


def _wait(executor: Executor, until_s: float) -> Finished | Crashed | None:
    while time.monotonic() < until_s:
        for event in executor.wait(1.0):
            if isinstance(event, Finished | Crashed):
                return event
    return None


def _judged(ended: Finished | Crashed | None, took_s: float, note: str) -> Check:
    if ended is None:
        found = f"no worker gave a result in {_PATIENCE_S:.0f} s{f' ({note})' if note else ''}"
        advice = "a job may wait in its queue: ask the scheduler, or name a partition for tests"
        return warned(_NAME, found, advice)
    if isinstance(ended, Crashed):
        return failed(_NAME, ended.reason, _SEE)
    verdict, reason = ended.relaxed.verdict, ended.relaxed.reason
    if verdict == "failed":
        return failed(_NAME, reason, _SEE)
    if verdict == "broken":
        found = f"{_FEW_CALLS} steps broke the structure: {reason}"
        return failed(_NAME, found, "every candidate would end so: are its forces in eV/Å?")
    if verdict == "order_lost":
        found = f"a worker relaxed a structure, which lost its order within {_FEW_CALLS} steps"
        return warned(_NAME, f"{found}: {reason}", "candidates that lose their order never count")
    return passed(_NAME, f"a worker relaxed a structure, {took_s:.1f} s after it was asked for")
