"""Why candidates are not ok: the same reason of many is one line, with how many and an example."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

SHOWN = 5
"""Reasons that the status names; the others are counted."""
_NUMBER = re.compile(r"(?<![A-Za-z\d])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Cause:
    """A reason that several candidates share, but for its numbers.

    Parameters
    ----------
    example
        The first of these candidates.
    reason
        Of that candidate.
    """

    verdict: str
    candidates: int
    example: int
    reason: str

    @property
    def line(self) -> str:
        """The same in words."""
        like = "" if self.candidates == 1 else "such as "
        example = f"{like}candidate {self.example}: {self.reason or 'no reason was given'}"
        return f"{self.candidates:,} {self.verdict}, {example}"


def causes(refused: Iterable[tuple[int, str, str]]) -> list[Cause]:
    """Return what made candidates not ok, the commonest first.

    Two reasons are the same where they differ in numbers only, or in what stands behind the first
    semicolon: the sites and sizes of one kind of failure.

    Parameters
    ----------
    refused
        Candidate, verdict and reason of each.
    """
    found: dict[tuple[str, str], Cause] = {}
    for number, verdict, reason in sorted(refused):
        kind = verdict, _NUMBER.sub("#", reason.partition(";")[0])
        before = found.get(kind)
        if before is None:
            found[kind] = Cause(verdict, 1, number, reason)
        else:
            found[kind] = dataclasses.replace(before, candidates=before.candidates + 1)
    return sorted(found.values(), key=lambda one: (-one.candidates, one.example))


def cause_lines(found: Sequence[Cause], most: int = SHOWN) -> list[str]:
    """Return the commonest reasons for people."""
    lines = [f"not ok: {one.line}" for one in found[:most]]
    more, kinds = sum(one.candidates for one in found[most:]), len(found[most:])
    if kinds:
        lines.append(f"not ok: {more:,} for {kinds:,} other reason{'' if kinds == 1 else 's'}")
    return lines


def cause_documents(found: Sequence[Cause]) -> list[dict[str, Any]]:
    """Return all reasons as JSON."""
    return [dataclasses.asdict(one) for one in found]
