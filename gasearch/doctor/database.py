"""Where the population lives: the locks of its file system."""

from __future__ import annotations

from collections.abc import Iterator

from gasearch.doctor.checks import Check, failed, passed, warned
from gasearch.run_folder import RunFolder
from gasearch.store.locking_probe import probe

_NAME = "locks"


def locks(folder: RunFolder) -> Iterator[Check]:
    """Say whether the file system of the database locks files."""
    found = probe(folder.path)
    if not found.is_reliable:
        told, _, advice = str(found).rstrip(".").rpartition(": ")
        yield failed(_NAME, told, advice)
    elif found.is_network:
        yield warned(
            _NAME,
            f"{found}; what other machines do to each other was not tried",
            "start each search on one machine only, or use a local disk or PostgreSQL",
        )
    else:
        yield passed(_NAME, str(found))
