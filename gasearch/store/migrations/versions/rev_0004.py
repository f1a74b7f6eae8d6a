"""Events are chained by their hashes, and prove all that the row of a result states.

What older rows state is hashed as it is found now; changes before cannot be seen.
"""

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from gasearch.store.schema import TEXT

revision = "0004"
down_revision = "0003"

_CHUNK = 500
_NUMBERS = ("energy", "fmax", "smax", "wall_s", "volume", "mass", "charge", "total_moment")
_TEXTS = ("verdict", "audit", "reason", "elements", "sha256")
_RESULT = (
    *("energy", "fmax", "smax", "wall_s", "n_calls", "converged"),
    *("verdict", "audit", "reason", "elements"),
)
_STRUCTURE = ("volume", "mass", "charge", "total_moment", "n_atoms", "pbc", "sha256")


def upgrade() -> None:
    """Hash the results, and chain the events."""
    op.add_column("event", sa.Column("sha256", TEXT, nullable=False, server_default=""))
    _seal()
    _chain()


def downgrade() -> None:
    """Remove the hashes."""
    op.drop_column("event", "sha256")


def _table(name: str, *columns: str) -> Any:
    return sa.table(name, sa.column("id", sa.Integer()), *map(_column, columns))


def _column(name: str) -> Any:
    if name in _NUMBERS or name == "time":
        return sa.column(name, sa.Float())
    if name == "converged":
        return sa.column(name, sa.Boolean())
    return sa.column(name, TEXT if name in (*_TEXTS, "kind", "data") else sa.Integer())


def _seal() -> None:
    """Say in new events which values the results have."""
    evaluation, structure = _table("evaluation", *_RESULT), _table("structure", *_STRUCTURE)
    extra = _table("extra", *_RESULT, *_STRUCTURE)
    columns = [*(evaluation.c[n] for n in _RESULT), *(structure.c[n] for n in _STRUCTURE)]
    joined = evaluation.join(structure, structure.c.id == evaluation.c.id)
    _seal_rows("evaluations", sa.select(evaluation.c.id, *columns).select_from(joined))
    _seal_rows("extras", sa.select(extra))


def _seal_rows(what: str, query: Any) -> None:
    connection = op.get_bind()
    event = _table("event", "time", "kind", "data")
    newest = connection.execute(sa.select(sa.func.max(event.c.id), sa.func.max(event.c.time)))
    number, time_s = newest.one()
    rows = connection.execute(query.order_by(sa.text("1"))).mappings().all()
    for start in range(0, len(rows), _CHUNK):
        number += 1
        hashes = {str(row["id"]): _stated(row) for row in rows[start : start + _CHUNK]}
        data = json.dumps({what: hashes}, sort_keys=True, separators=(",", ":"))
        new = {"id": number, "time": time_s, "kind": "sealed", "data": data}
        connection.execute(sa.insert(event).values(**new))


def _stated(row: Any) -> str:
    names = (*_RESULT, *_STRUCTURE)
    values = {name: _plain(row[name]) for name in names if row[name] is not None}
    text = json.dumps(values, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _chain() -> None:
    connection = op.get_bind()
    event = _table("event", "time", "kind", "candidate", "data", "sha256")
    last, digest = 0, ""
    while True:
        page = sa.select(event).where(event.c.id > last).order_by(event.c.id).limit(_CHUNK)
        rows = connection.execute(page).all()
        if not rows:
            return
        changes = []
        for row in rows:
            values = [row.id, _plain(row.time), row.kind, row.candidate, row.data]
            text = digest + json.dumps(values, separators=(",", ":"))
            last, digest = row.id, hashlib.sha256(text.encode()).hexdigest()
            changes.append({"key": last, "new": digest})
        change = sa.update(event).where(event.c.id == sa.bindparam("key"))
        connection.execute(change.values(sha256=sa.bindparam("new")), changes)


def _plain(value: Any) -> Any:
    return value + 0.0 if isinstance(value, float) else value
