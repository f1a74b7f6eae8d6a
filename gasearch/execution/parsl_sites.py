"""Where Parsl gets its workers from."""

from __future__ import annotations

from collections.abc import Sequence

from gasearch.execution.settings import ExecutionSection
from gasearch.run_folder import RunFolder


def cancel_jobs(
    section: ExecutionSection,  # noqa: ARG001
    folder: RunFolder,  # noqa: ARG001
    provider: str,  # noqa: ARG001
    jobs: Sequence[str],  # noqa: ARG001
) -> int:
    """Cancel jobs of a scheduler by their numbers; return how many."""
    return 0
