"""The tables, as this version of gasearch writes them; older ones come here by `migrations`.

Columns of candidates and of results are the fields of records, see `gasearch.store.records`.
Candidates are numbered as the search proposes them, so the key of a candidate is its number.
Times are seconds since 1970, UTC. Text that holds structured data is JSON. Structures have a table
of their own, so that all other queries read few pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from gasearch.relax.audit import VERDICTS
from gasearch.relax.relaxed import Relaxed
from gasearch.store.records import PURPOSES, STATES, Proposal, of_older, plain_fields
from gasearch.store.sql.blobs import ENCODINGS

TEXT = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared and sorted by its code points, as SQLite does, whatever the language of the server."""

WIDE = Integer().with_variant(BigInteger(), "postgresql")
"""A whole number of 64 bits."""

SCHEMA_VERSION = "0006"
RUN = 1
SEARCH_LEVEL = 1
HOST_STRUCTURE = 0
DRIVER = "driver"

_TYPES: Mapping[str, Any] = {
    "int": Integer,
    "Wide": WIDE,
    "float": Float,
    "bool": Boolean,
    "str": TEXT,
    "bytes": LargeBinary,
    "Verdict": TEXT,
    "Details": TEXT,
}

metadata = MetaData()


def _of_proposals() -> Iterator[Column[Any]]:
    older = {name: value for name, value in of_older(Proposal).items() if value is not None}
    texts = {name: str(int(v) if isinstance(v, bool) else v) for name, v in older.items()}
    for one in plain_fields(Proposal):
        kind, nullable = _TYPES[str(one.type)], one.type == "Details"
        yield Column(one.name, kind, nullable=nullable, server_default=texts.get(one.name))


def _of_results(required: Iterable[str] = ()) -> Iterator[Column[Any]]:
    for one in plain_fields(Relaxed):
        yield Column(one.name, _TYPES[str(one.type)], nullable=one.name not in required)
    yield Column("elements", TEXT)


def _of_structures() -> Iterator[Column[Any]]:
    for name in ("volume", "mass", "charge"):
        yield Column(name, Float, nullable=False)
    yield Column("total_moment", Float)
    for name in ("n_atoms", "pbc"):
        yield Column(name, Integer, nullable=False)
    # Of each blob, by column; see `gasearch.store.sql.blobs` for their encoding.
    yield Column("sha256", TEXT, nullable=False)
    for name, encoding in ENCODINGS.items():
        yield Column(name, LargeBinary, nullable=not encoding.is_required)


def without_blobs(table: Table) -> list[Column[Any]]:
    """Return the columns of a table that are quickly read."""
    return [column for column in table.c if not isinstance(column.type, LargeBinary)]


def selected(record: type, *tables: Table) -> list[Column[Any]]:
    """Return the columns that are called as the fields of a record, of the first table with each.

    Fields that no table has are left out.
    """
    names = (one.name for one in fields(record))
    homes = {name: [table for table in tables if name in table.c] for name in names}
    return [found[0].c[name] for name, found in homes.items() if found]


def _one_of(name: str, words: Iterable[str]) -> str:
    return f"{name} IN ({', '.join(repr(word) for word in words)})"


run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", TEXT, nullable=False),
    Column("created", Float, nullable=False),
    Column("seed", TEXT, nullable=False),
    Column("n_formula_units", Integer, nullable=False),
    Column("host", TEXT, nullable=False),
    Column("settings", TEXT, nullable=False),
    Column("operational", TEXT, nullable=False),
    Column("versions", TEXT, nullable=False),
)

level = Table(
    "level",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", TEXT, nullable=False, unique=True),
    Column("potential", TEXT, nullable=False),
    Column("weights_hash", TEXT, nullable=False),
    Column("probe_energies", TEXT, nullable=False),
    Column("ranks_only", Boolean, nullable=False),
    Column("settings", TEXT),  # of a DFT code
)

candidate = Table(
    "candidate",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", Integer, ForeignKey("run.id"), nullable=False),
    Column("occupation_sha256", TEXT, nullable=False),
    *_of_proposals(),
    UniqueConstraint("run", "fingerprint", name="candidate_is_unique"),
    CheckConstraint("id > 0", name="candidate_is_positive"),
    CheckConstraint("known >= 0 AND n_rejected >= 0", name="candidate_counts"),
    Index("candidate_by_composition", "composition", "x"),
)

parent = Table(
    "parent",
    metadata,
    Column("child", Integer, ForeignKey("candidate.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("parent", Integer, ForeignKey("candidate.id"), nullable=False),
    Index("parent_by_parent", "parent"),
)

evaluation = Table(
    "evaluation",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("candidate", Integer, ForeignKey("candidate.id"), nullable=False),
    Column("level", Integer, ForeignKey("level.id"), nullable=False),
    Column("purpose", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("n_crashes", Integer, nullable=False),
    Column("lease_ends", Float),
    Column("result", Integer, unique=True),
    Column("finished", Float),
    *_of_results(),
    UniqueConstraint("candidate", "level", "purpose", name="evaluation_is_unique"),
    CheckConstraint(_one_of("purpose", (*PURPOSES, "dft")), name="evaluation_purpose"),
    CheckConstraint(_one_of("state", STATES), name="evaluation_state"),
    CheckConstraint(_one_of("verdict", VERDICTS), name="evaluation_verdict"),
    CheckConstraint("attempt >= 0 AND n_crashes >= 0", name="evaluation_counts"),
    CheckConstraint("(state = 'relaxing') = (lease_ends IS NOT NULL)", name="evaluation_has_lease"),
    CheckConstraint(
        "(state IN ('relaxed', 'failed')) = (verdict IS NOT NULL)", name="evaluation_has_verdict"
    ),
    CheckConstraint(
        "state NOT IN ('relaxed', 'failed') OR (state = 'failed') = (verdict = 'failed')",
        name="evaluation_failed",
    ),
    CheckConstraint("(state = 'relaxed') = (energy IS NOT NULL)", name="evaluation_has_energy"),
    CheckConstraint(
        "(result IS NOT NULL) = (verdict IS NOT NULL AND purpose = 'search')",
        name="evaluation_has_result",
    ),
)

Index("evaluation_by_state", evaluation.c.state, evaluation.c.id)

structure = Table(
    "structure",
    metadata,
    # The evaluation that ended in it; 0 for the host.
    Column("id", Integer, primary_key=True, autoincrement=False),
    # The candidate for which it counts (see `best_evaluation`) at the level of the search; NULL
    # where another one counts, 0 for the host.
    Column("counts_for", Integer, unique=True),
    Column("key_value_pairs", TEXT, nullable=False),
    Column("data", TEXT, nullable=False),
    *_of_structures(),
)

# A result that came after its lease was over: an evaluation and its structure in one row.
extra = Table(
    "extra",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("candidate", Integer, ForeignKey("candidate.id"), nullable=False),
    Column("level", Integer, ForeignKey("level.id"), nullable=False),
    Column("purpose", TEXT, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("finished", Float, nullable=False),
    *_of_results(required=("verdict", "n_calls")),
    *_of_structures(),
    # The same late result may come twice, and is one.
    UniqueConstraint(
        "candidate", "level", "purpose", "attempt", "verdict", "sha256", name="extra_is_unique"
    ),
    CheckConstraint(_one_of("purpose", PURPOSES), name="extra_purpose"),
    CheckConstraint(_one_of("verdict", VERDICTS), name="extra_verdict"),
    CheckConstraint("(verdict = 'failed') = (energy IS NULL)", name="extra_has_energy"),
)

# What each process has committed last, where a commit may be lost on its way back: on a server.
# The row of `DRIVER` names the driver that may write.
last_write = Table(
    "last_write",
    metadata,
    Column("writer", TEXT, primary_key=True),
    Column("token", TEXT, nullable=False),
    Column("time", Float, nullable=False),
)

promotion = Table(
    "promotion",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("candidate", Integer, ForeignKey("candidate.id"), nullable=False),
    Column("level", Integer, ForeignKey("level.id"), nullable=False),
    Column("rule", TEXT, nullable=False),
    Column("reason", TEXT, nullable=False),
    Column("promoted", Float, nullable=False),
    UniqueConstraint("candidate", "level", "rule", name="promotion_is_unique"),
)

DFT_STATES = ("prepared", "exported", "running", "collected", "failed")

dft_job = Table(
    "dft_job",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("candidate", Integer, ForeignKey("candidate.id"), nullable=False),
    Column("level", Integer, ForeignKey("level.id"), nullable=False),
    Column("code", TEXT, nullable=False),
    Column("folder", TEXT, nullable=False, unique=True),
    Column("state", TEXT, nullable=False),
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
    # What came out, and its charge order, which may be that of another candidate.
    Column("evaluation", Integer, ForeignKey("evaluation.id")),
    Column("found", Integer, ForeignKey("candidate.id")),
    Column("charge_order", TEXT),
    Column("reason", TEXT),
    CheckConstraint(_one_of("state", DFT_STATES), name="dft_job_state"),
    CheckConstraint(
        _one_of("charge_order", ("kept", "moved", "delocalised")), name="dft_job_charge_order"
    ),
    Index("dft_job_by_candidate", "candidate"),
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("time", Float, nullable=False),
    Column("kind", TEXT, nullable=False),
    Column("candidate", Integer, ForeignKey("candidate.id")),
    Column("data", TEXT, nullable=False),
    # Of this event and of all before it, see `gasearch.store.sql.events.chained`.
    Column("sha256", TEXT, nullable=False, server_default=""),
    Index("event_by_candidate", "candidate", "id"),
)
