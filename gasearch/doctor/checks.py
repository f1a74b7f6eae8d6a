"""What one check found, and how checks are run so that none of them stops the others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gasearch.errors import GasearchError

_FIX = "fix this and run gasearch doctor again"


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
    state: Literal["pass", "warn", "fail"]
    found: str
    advice: str = ""


def passed(name: str, found: str) -> Check:
    """Return a check that went well."""
    return Check(name, "pass", found)


def warned(name: str, found: str, advice: str) -> Check:
    """Return a check of something that works, and may disappoint."""
    return Check(name, "warn", found, advice)


def failed(name: str, found: object, advice: str) -> Check:
    """Return a check of something that a search would fail for."""
    return Check(name, "fail", one_line(str(found)).rstrip("."), advice)


def guarded(name: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Yield what a function finds; what it raises is found too."""
    try:
        yield from look()
    except GasearchError as error:
        found, advice = with_advice(error)
        yield failed(name, found, advice or _FIX)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is what the user asked for
        yield failed(name, f"{type(error).__name__}: {error}", _FIX)


def with_advice(error: object) -> tuple[str, str]:
    """Return what the text of an error says was found, and what to do; "" where it says nothing."""
    found, _, advice = one_line(str(error)).rstrip(".").partition(": ")
    return found, advice


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())


def has_failed(checks: Sequence[Check]) -> bool:
    """Return whether a search would fail."""
    return any(check.state == "fail" for check in checks)


def run_program(
    command: Sequence[str], limit_s: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program without input and return what it printed; `TimeoutExpired` after `limit_s`."""
    return subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=limit_s,
        check=False,
    )
