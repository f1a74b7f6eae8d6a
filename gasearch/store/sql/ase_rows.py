"""What ASE shows of a result besides its structure: the key-value pairs and the data of its row."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from gasearch.store.schema import SEARCH_LEVEL, candidate, level, parent, run, without_blobs
from gasearch.store.sql.evaluation_state import chunks

HOST_COLUMNS = {"key_value_pairs": '{"simulation_cell":1,"relaxed":0}', "data": "{}"}
SHOWN = ("verdict", "energy", "n_calls", "reason", "audit", "purpose", "level")
"""Columns of an evaluation that are shown."""
_NUMBER = re.compile(r"[0-9eE+._-]*")


class AseRows:
    """The rows of results of some candidates."""

    def __init__(self, connection: Connection, candidates: Sequence[int]) -> None:
        self._n_formula_units = connection.execute(select(run.c.n_formula_units)).scalar_one()
        query = select(level.c.id, level.c.name).order_by(level.c.id)
        self._levels = {row.id: row.name for row in connection.execute(query)}
        self._candidates: dict[int, Mapping[str, Any]] = {}
        self._parents: dict[int, list[int]] = {}
        for chunk in chunks(sorted(set(candidates))):
            self._read(connection, chunk)

    def _read(self, connection: Connection, keys: Sequence[int]) -> None:
        query = select(*without_blobs(candidate)).where(candidate.c.id.in_(keys))
        for row in connection.execute(query.order_by(candidate.c.id)):
            self._candidates[row.id] = row._asdict()
        lines = (
            select(parent.c.child, parent.c.parent)
            .where(parent.c.child.in_(keys))
            .order_by(parent.c.child, parent.c.position)
        )
        for child, number in connection.execute(lines):
            self._parents.setdefault(child, []).append(number)

    def columns(self, number: int, result: Mapping[str, Any]) -> dict[str, str]:
        """Return the JSON columns of a result of candidate `number`.

        Parameters
        ----------
        result
            `SHOWN` columns of the evaluation; `level` may be left out for the level of the search.
        """
        parents = self._parents.get(number, [])
        own = self._candidates[number]
        data = {"parents": parents, "reason": result["reason"], "audit": result["audit"]}
        keys: dict[str, Any] = {
            "gaid": number,
            "relaxed": int(result["verdict"] == "ok"),
            "extinct": 0,
            "generation": own["generation"],
            "x": own["x"],
            "orbit_size": own["orbit_size"],
            "n_calls": result["n_calls"],
            "origin": own["operator"] if own["origin"] == "search" else own["origin"],
            "composition": own["composition"],
            "verdict": result["verdict"],
            "purpose": result["purpose"],
            "fingerprint": ase_text(own["fingerprint"]),
            "level": self._levels[result.get("level", SEARCH_LEVEL)],
        }
        if result["verdict"] == "ok":
            keys["raw_score"] = -result["energy"] / self._n_formula_units
        if len(parents) == 2:
            keys["pairing"] = 1
        return {"key_value_pairs": json.dumps(keys), "data": json.dumps(data)}


def ase_text(text: str) -> str:
    """Return a text that ASE does not take for a number, which it could neither find nor copy."""
    return f"fp{text}" if _NUMBER.fullmatch(text) else text
