"""Whether the programs that compute DFT jobs are there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from gasearch.dft.codes.potential import at_home
from gasearch.dft.codes.registry import program_of
from gasearch.dft.errors import NoCodeError
from gasearch.dft.jobs.submit import Submitter, command_line
from gasearch.doctor.checks import Check, failed, passed, warned, with_advice
from gasearch.run.dft_section import DftSection
from gasearch.search.session import Session

_NAME = "DFT"


def is_used(session: Session) -> bool:
    """Return whether run.toml says anything of DFT, or there are DFT jobs."""
    return session.settings.dft != DftSection() or (session.folder.path / "dft").is_dir()


def dft(session: Session) -> Iterator[Check]:
    """Say which code would run, and what starts its MPI ranks.

    What is missing is a failure only where it was named, and jobs run on this machine.
    """
    section = at_home(session.settings.dft, session.folder.path)
    is_local = Submitter(session.folder, section, session.settings.execution).is_local
    program = program_of(section.code)
    command, words = program.command(section), command_line(program, section)
    report = failed if is_local else warned
    elsewhere = "" if is_local else "; the start-up lines may bring it on the nodes"
    for word in dict.fromkeys((words[0], command[0])):
        if shutil.which(word) is None:
            key = "[dft.gpaw] command" if word == command[0] else "[dft] prefix"
            yield report(_NAME, f"there is no {word}", f"name another in {key}{elsewhere}")
            return
    try:
        version = program.require(section)
    except NoCodeError as error:
        found, advice = with_advice(error)
        is_named = section.code != "gpaw" or bool(section.gpaw.command)
        yield (report if is_named else warned)(_NAME, found, f"{advice}{elsewhere}")
        return
    at_once = f"{section.jobs} at once, as processes here" if is_local else "as jobs of a scheduler"
    yield passed(_NAME, f"{version} by {' '.join(words)}, {at_once}")
