"""Whether the program that computes DFT jobs here is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from gasearch.dft import gpaw
from gasearch.dft.errors import NoCodeError
from gasearch.dft.settings import DftSection
from gasearch.doctor.checks import Check, failed, passed, warned
from gasearch.session import Session

_NAME = "DFT"


def is_used(session: Session) -> bool:
    """Return whether the run says anything of DFT, or has jobs."""
    return session.settings.dft != DftSection() or (session.folder.path / "dft").is_dir()


def dft(session: Session) -> Iterator[Check]:
    """Say which GPAW would compute; where other codes do, its absence is no failure."""
    section = session.settings.dft
    command = gpaw.command_of(section)
    if shutil.which(command[0]) is None:
        yield failed(_NAME, f"there is no {command[0]}", "name another in [dft.gpaw] command")
        return
    try:
        version = gpaw.require_gpaw(section)
    except NoCodeError as error:
        found, _, advice = str(error).rstrip(".").partition(": ")
        report = failed if section.gpaw.command else warned
        yield report(_NAME, found, advice)
        return
    yield passed(_NAME, f"GPAW {version} by {' '.join(command)}")
