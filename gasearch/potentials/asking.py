"""Asking a potential of the user's: its errors are told as his own, with his message."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from gasearch.errors import GasearchError, UsageError

if TYPE_CHECKING:
    from gasearch.potentials.contract import Batch, Evaluated, Potential


class PotentialRaisedError(UsageError):
    """A potential, or the calculator behind it, that raised an error of its own.

    Parameters
    ----------
    potential
        How the user asked for it.
    problem
        As `what_was_raised` tells it.
    """

    def __init__(self, potential: str, problem: str) -> None:
        super().__init__(potential, problem)
        self.potential = potential
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"potential {self.potential!r} gave no energy: {self.problem}. "
            "Correct it there, or take another potential."
        )


def evaluate(potential: Potential, batch: Batch) -> Evaluated:
    """Return what a potential says; what it raises becomes a `PotentialRaisedError`."""
    try:
        return potential.evaluate(batch)
    except GasearchError:
        raise
    except (Exception, SystemExit) as error:
        raise PotentialRaisedError(potential.name, what_was_raised(error)) from error


def what_was_raised(error: BaseException) -> str:
    """Return an error in one line, with the line of the user's code that it came from."""
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, SystemExit):
        what = f"SystemExit: {text}"
    else:
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_installed(Path(frame.filename))]
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return what + place


def _is_installed(path: Path) -> bool:
    """Return whether code belongs to a package, gasearch among them, rather than to the user."""
    here = Path(__file__).parents[1]
    return "site-packages" in path.parts or here in path.parents or str(path).startswith("<frozen ")
