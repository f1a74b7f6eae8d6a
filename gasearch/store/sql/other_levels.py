"""Evaluations at other levels of theory than the search's: of DFT, and of a released potential.

They stand beside those of the search under the purpose "dft", which is the word of the tables for
all of them: none counts for a candidate there, none is shown by the views for ASE, and none steers
a search.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from gasearch.relax.relaxed import Relaxed
from gasearch.store.errors import UnknownCandidateError
from gasearch.store.population_store import PopulationStore
from gasearch.store.records import EvaluationRow, JsonValue, from_columns
from gasearch.store.schema import SEARCH_LEVEL, candidate, evaluation, level, structure
from gasearch.store.sql import blobs
from gasearch.store.sql.ase_rows import AseRows
from gasearch.store.sql.blobs import Columns
from gasearch.store.sql.queries import evaluation_rows, relaxed_rows
from gasearch.store.sql.transaction import Transaction

BESIDE = "dft"
"""Purpose of all evaluations at another level than the search's."""
RELEASED_FROM = "released_from"
"""Setting of the level of a released potential: the held level that its structures come from."""


@dataclass(frozen=True)
class LevelRow:
    """A level of theory beside that of the search.

    Parameters
    ----------
    code
        Of DFT, or the name of a potential.
    settings
        All that its energies depend on.
    weights_hash
        Of a potential; "" for DFT.
    """

    id: int
    name: str
    code: str
    settings: Mapping[str, Any]
    weights_hash: str = ""

    @property
    def released_from(self) -> str | None:
        """The held level whose structures were released into this one; None for DFT."""
        return self.settings.get(RELEASED_FROM)


def other_levels(store: PopulationStore) -> list[LevelRow]:
    """Return all levels of a run but that of the search, oldest first."""
    query = select(level).where(level.c.id != SEARCH_LEVEL).order_by(level.c.id)
    return store.read(lambda connection: [_level_row(row) for row in connection.execute(query)])


def _level_row(row: Row[Any]) -> LevelRow:
    settings = json.loads(row.settings or "{}")
    return LevelRow(row.id, row.name, row.potential, settings, row.weights_hash)


def level_key(connection: Connection, name: str) -> int | None:
    """Return the key of a level, or None where there is none of this name."""
    return connection.execute(select(level.c.id).where(level.c.name == name)).scalar_one_or_none()


def put_level(
    transaction: Transaction, kind: str, name: str, source: str, text: str, weights_hash: str = ""
) -> int:
    """Return the key of a level, which is added with an event unless it is there.

    Parameters
    ----------
    source
        What computes it: a DFT code, or a potential.
    text
        Its settings as JSON.
    """
    known = level_key(transaction.connection, name)
    if known is not None:
        return known
    row = {"name": name, "potential": source, "weights_hash": weights_hash, "probe_energies": "[]"}
    added = insert(level).values(**row, ranks_only=False, settings=text)
    key = transaction.connection.execute(added).inserted_primary_key
    data: dict[str, JsonValue] = {"name": name, "code": source, "settings": text}
    if weights_hash:
        data["weights_hash"] = weights_hash
    transaction.add_event(kind, None, data)
    return int(key[0]) if key else 0


def rows_at(store: PopulationStore, level_name: str) -> list[EvaluationRow]:
    """Return the evaluations at another level, by x, then energy, then candidate."""
    query = _at(evaluation_rows(), level_name)
    ordered = query.order_by(candidate.c.x, evaluation.c.energy, candidate.c.id)
    return store.read(
        lambda connection: [
            from_columns(EvaluationRow, row._asdict()) for row in connection.execute(ordered)
        ]
    )


def relaxed_at(store: PopulationStore, number: int, level_name: str) -> Relaxed:
    """Return the structure of a candidate at another level, NaN for what is not known of it."""
    query = _at(relaxed_rows(), level_name).where(evaluation.c.candidate == number)
    row = store.read(lambda connection: connection.execute(query).one_or_none())
    if row is None:
        raise UnknownCandidateError(number, f"structure at level {level_name}")
    return blobs.relaxed(row._asdict(), f"candidate {number} at level {level_name}")


def _at(query: Select[Any], level_name: str) -> Select[Any]:
    return query.join(level, level.c.id == evaluation.c.level).where(
        level.c.name == level_name, evaluation.c.purpose == BESIDE
    )


def put_evaluation(
    transaction: Transaction,
    kind: str,
    place: tuple[int, int],
    row: Columns,
    columns: Columns,
    more: Mapping[str, JsonValue] | None = None,
    *,
    always: bool = False,
) -> int:
    """Write an evaluation, unless there is a lower one; return the one that is there then.

    Parameters
    ----------
    place
        The candidate, and the key of the level.
    row, columns
        As `blobs.result_columns` gives them.
    more
        What else its event tells.
    always
        Whether it takes the place of a lower one too.
    """
    connection, (number, key) = transaction.connection, place
    known = connection.execute(
        select(evaluation).where(
            evaluation.c.candidate == number,
            evaluation.c.level == key,
            evaluation.c.purpose == BESIDE,
        )
    ).one_or_none()
    if known is not None and not (always or _replaces(row, known)):
        return int(known.id)
    state = {"state": "relaxed", "finished": transaction.time_s}
    if known is None:
        head = {"candidate": number, "level": key, "purpose": BESIDE, "attempt": 1, "n_crashes": 0}
        added = connection.execute(insert(evaluation).values(**head, **row, **state))
        own = int(added.inserted_primary_key[0]) if added.inserted_primary_key else 0
    else:
        own = int(known.id)
        connection.execute(update(evaluation).where(evaluation.c.id == own).values(**row, **state))
    shown = AseRows(connection, [number]).columns(number, row | {"purpose": BESIDE, "level": key})
    body = columns | {"sha256": blobs.hashes(columns), "counts_for": None, **shown}
    if known is None:
        connection.execute(insert(structure).values(id=own, **body))
    else:
        connection.execute(update(structure).where(structure.c.id == own).values(**body))
    data = {name: row[name] for name in ("verdict", "energy", "n_calls")}
    data["sha256"] = blobs.stated(row | body)
    own_words = {"level": key, "candidate": number, **(more or {})}
    transaction.add_event(kind, None, data | own_words)
    return own


def _replaces(row: Mapping[str, Any], known: Row[Any]) -> bool:
    """Return whether a result is to take the place of an older one of the same candidate."""
    new, old = (row["verdict"] != "ok", row["energy"]), (known.verdict != "ok", known.energy)
    return bool(new < old)
