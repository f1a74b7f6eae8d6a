"""What one check found, and how checks are run so that none of them stops the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gasearch.errors import GasearchError

State = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One thing that was tried.

    Parameters
    ----------
    name
        What was tried, in two or three words.
    found
        What came of it, in one line.
    advice
        What to do about it, in one line; "" where there is nothing to do.
    """

    name: str
    state: State
    found: str
    advice: str = ""


def passed(name: str, found: str) -> Check:
    """Return a check that went well."""
    return Check(name, "pass", found)


def warned(name: str, found: str, advice: str) -> Check:
    """Return a check of something that works, and may disappoint."""
    return Check(name, "warn", found, advice)


def failed(name: str, found: str, advice: str) -> Check:
    """Return a check of something that a search would fail for."""
    return Check(name, "fail", found, advice)


def guarded(name: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Yield what a function finds; what it raises is found too."""
    try:
        yield from look()
    except GasearchError as error:
        found, _, advice = one_line(str(error)).rstrip(".").partition(": ")
        yield failed(name, found, advice) if advice else failed(name, found, _MEND)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is what the user asked for
        yield failed(name, one_line(f"{type(error).__name__}: {error}").rstrip("."), _MEND)


_MEND = "mend this, and ask again"


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())


def has_failed(checks: Sequence[Check]) -> bool:
    """Return whether a search would fail."""
    return any(check.state == "fail" for check in checks)
