"""What was read of a search, as columns that grow with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gasearch.relax.audit import VERDICTS
from gasearch.store.records import FIRST_OUTSIDE
from gasearch.store.sql.following import CandidateLine, EvaluationLine, Step

_NAN = float("nan")
_NONE = -1
_COLUMNS: Mapping[str, Any] = {
    "number": np.int64,
    "composition": np.int64,
    "operator": np.int64,
    "energy": np.float64,
    "verdict": np.int64,
    "order": np.int64,
    "search_verdict": np.int64,
    "finished": np.float64,
    "n_calls": np.int64,
    "n_rejected": np.int64,
}


@dataclass(frozen=True, eq=False)
class Table:
    """Candidates at one moment; all columns are (n,).

    Parameters
    ----------
    number
        Of the candidate.
    composition, operator
        Places in `compositions` and `operators`.
    energy
        Of the evaluation that counts, of the whole cell in eV; NaN where there is none.
    verdict, search_verdict
        Places in `VERDICTS` of that evaluation, and of the search relaxation; -1 before it ended.
    order
        Number among the results of the search; 0 where there is none.
    finished
        When the search relaxation ended, in seconds since 1970; NaN before.
    n_calls
        Evaluations of the potential by all its relaxations.
    n_rejected
        Draws before it that repeated known decorations.
    refused
        Verdict and reason of the candidates that are not ok.
    open
        Candidates with a relaxation that waits or is under way.
    """

    number: NDArray[np.int64]
    composition: NDArray[np.int64]
    operator: NDArray[np.int64]
    energy: NDArray[np.float64]
    verdict: NDArray[np.int64]
    order: NDArray[np.int64]
    search_verdict: NDArray[np.int64]
    finished: NDArray[np.float64]
    n_calls: NDArray[np.int64]
    n_rejected: NDArray[np.int64]
    compositions: tuple[str, ...]
    operators: tuple[str, ...]
    refused: Mapping[int, tuple[str, str]]
    open: Mapping[int, CandidateLine]


class Rows:
    """Columns of candidates, each of which is put in as often as it changes."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self._places: dict[int, int] = {}
        self._compositions: dict[str, int] = {}
        self._operators: dict[str, int] = {}
        self._refused: dict[int, tuple[str, str]] = {}
        self._open: dict[int, CandidateLine] = {}

    def __len__(self) -> int:
        return len(self._places)

    def take(self, step: Step) -> None:
        """Take what one look at the database found."""
        if step.outside_anew:
            self._forget_outside()
        for line in step.lines:
            self._put(line)

    def table(self) -> Table:
        """Return the columns as they are now."""
        arrays: dict[str, Any] = {
            name: np.array(self._columns[name], dtype=kind) for name, kind in _COLUMNS.items()
        }
        return Table(
            **arrays,
            compositions=tuple(self._compositions),
            operators=tuple(self._operators),
            refused=dict(self._refused),
            open=dict(self._open),
        )

    def _put(self, line: CandidateLine) -> None:
        values = self._values(line)
        place = self._places.setdefault(line.id, len(self._places))
        for name, column in self._columns.items():
            if place == len(column):
                column.append(values[name])
            else:
                column[place] = values[name]
        self._open.pop(line.id, None)
        if any(one.state in ("queued", "relaxing") for one in line.evaluations):
            self._open[line.id] = line
        self._refused.pop(line.id, None)
        counted = line.counted
        if counted is not None and counted.verdict not in (None, "ok"):
            self._refused[line.id] = str(counted.verdict), counted.reason or ""

    def _values(self, line: CandidateLine) -> dict[str, Any]:
        counted = line.counted
        search = next((one for one in line.evaluations if one.purpose == "search"), None)
        return {
            "number": line.id,
            "composition": _code(self._compositions, line.composition),
            "operator": _code(self._operators, line.operator),
            "energy": _NAN if counted is None or counted.energy is None else counted.energy,
            "verdict": _verdict(counted),
            "order": 0 if search is None else search.result or 0,
            "search_verdict": _verdict(search),
            "finished": _NAN if search is None or search.finished is None else search.finished,
            "n_calls": sum(one.n_calls or 0 for one in line.evaluations),
            "n_rejected": line.n_rejected,
        }

    def _forget_outside(self) -> None:
        """Drop candidates from elsewhere, which stand together at no certain place."""
        kept = [number for number in self._places if number < FIRST_OUTSIDE]
        places = [self._places[number] for number in kept]
        self._columns = {name: [c[n] for n in places] for name, c in self._columns.items()}
        self._places = {number: n for n, number in enumerate(kept)}
        for found in (self._refused, self._open):
            for number in [number for number in found if number >= FIRST_OUTSIDE]:
                del found[number]


def _code(known: dict[str, int], name: str) -> int:
    return known.setdefault(name, len(known))


def _verdict(one: EvaluationLine | None) -> int:
    return _NONE if one is None or one.verdict is None else VERDICTS.index(one.verdict)
