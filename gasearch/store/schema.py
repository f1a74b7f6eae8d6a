"""The tables, as this version of gasearch writes them; older ones come here by `migrations`.

Candidates are numbered as the search proposes them, so the key of a candidate is its number.
Times are seconds since 1970, UTC. Text that holds structured data is JSON. Small columns come
before blobs, so that queries by key do not read structures.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
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

from gasearch.relax.relaxed import VERDICTS
from gasearch.store.records import PURPOSES, STATES

SCHEMA_VERSION = "0001"

metadata = MetaData()


def _one_of(name: str, words: Iterable[str]) -> str:
    return f"{name} IN ({', '.join(repr(word) for word in words)})"


def _structure(nullable: bool) -> list[Column[Any]]:
    """Return the columns of a structure; see `gasearch.store.blobs` for their encoding."""
    return [
        Column("pbc", Integer, nullable=nullable),
        Column("sha256", Text, nullable=nullable),
        Column("numbers", LargeBinary, nullable=nullable),
        Column("positions", LargeBinary, nullable=nullable),
        Column("cell", LargeBinary, nullable=nullable),
        Column("initial_charges", LargeBinary, nullable=nullable),
        Column("initial_magmoms", LargeBinary, nullable=nullable),
        Column("tags", LargeBinary),
    ]


run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("created", Float, nullable=False),
    Column("seed", Text, nullable=False),
    Column("n_formula_units", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("operational", Text, nullable=False),
    Column("versions", Text, nullable=False),
    Column("n_atoms", Integer, nullable=False),
    Column("volume", Float, nullable=False),
    Column("mass", Float, nullable=False),
    Column("charge", Float, nullable=False),
    Column("elements", Text, nullable=False),
    *_structure(nullable=False),
)

level = Table(
    "level",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("potential", Text, nullable=False),
    Column("weights_hash", Text, nullable=False),
    Column("probe_energies", Text, nullable=False),
    Column("ranks_only", Boolean, nullable=False),
)

candidate = Table(
    "candidate",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", Integer, ForeignKey("run.id"), nullable=False),
    Column("composition", Text, nullable=False),
    Column("x", Float, nullable=False),
    Column("orbit_size", Integer, nullable=False),
    Column("operator", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("known", Integer, nullable=False),
    Column("n_rejected", Integer, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("occupation_sha256", Text, nullable=False),
    Column("occupation", LargeBinary, nullable=False),
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
    Column("purpose", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("n_crashes", Integer, nullable=False),
    Column("lease_ends", Float),
    # Which of a candidate's evaluations at a level counts: the lowest whose verdict is ok.
    Column("best", Boolean, nullable=False),
    Column("result", Integer, unique=True),
    Column("verdict", Text),
    Column("energy", Float),
    Column("n_calls", Integer),
    Column("fmax", Float),
    Column("smax", Float),
    Column("converged", Boolean),
    Column("wall_s", Float),
    Column("finished", Float),
    Column("n_atoms", Integer),
    Column("volume", Float),
    Column("mass", Float),
    Column("charge", Float),
    Column("total_moment", Float),
    Column("elements", Text),
    Column("audit", Text),
    Column("reason", Text),
    *_structure(nullable=True),
    Column("forces", LargeBinary),
    Column("stress", LargeBinary),
    Column("moments", LargeBinary),
    Column("bond_lengths", LargeBinary),
    UniqueConstraint("candidate", "level", "purpose", name="evaluation_is_unique"),
    CheckConstraint(_one_of("purpose", PURPOSES), name="evaluation_purpose"),
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
    CheckConstraint("NOT best OR verdict IS NOT NULL", name="evaluation_best"),
)

Index("evaluation_by_state", evaluation.c.state, evaluation.c.id)
Index(
    "evaluation_by_verdict",
    evaluation.c.best,
    evaluation.c.verdict,
    evaluation.c.candidate,
    evaluation.c.energy,
)

promotion = Table(
    "promotion",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("candidate", Integer, ForeignKey("candidate.id"), nullable=False),
    Column("level", Integer, ForeignKey("level.id"), nullable=False),
    Column("rule", Text, nullable=False),
    Column("reason", Text, nullable=False),
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
    Column("code", Text, nullable=False),
    Column("folder", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
    # The order that came out, which may be another candidate than the one that went in.
    Column("found", Integer, ForeignKey("candidate.id")),
    Column("charge_order", Text),
    Column("reason", Text),
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
    Column("kind", Text, nullable=False),
    Column("candidate", Integer, ForeignKey("candidate.id")),
    Column("data", Text, nullable=False),
    Index("event_by_candidate", "candidate", "id"),
)
