"""The first schema."""

import sqlalchemy as sa
from alembic import op

from gasearch.store.migrations import columns, references
from gasearch.store.schema import TEXT, WIDE

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "level",
        *columns(sa.Integer(), "id"),
        *columns(TEXT, "name", "potential", "weights_hash", "probe_energies"),
        *columns(sa.Boolean(), "ranks_only"),
        *columns(TEXT, "settings", nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "run",
        *columns(sa.Integer(), "id", "n_formula_units"),
        *columns(TEXT, "uuid", "seed", "host", "settings", "operational", "versions"),
        *columns(sa.Float(), "created"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "structure",
        *columns(sa.Integer(), "counts_for", nullable=True),
        *columns(sa.Integer(), "n_atoms", "pbc"),
        *columns(sa.Float(), "volume", "mass", "charge"),
        *columns(sa.Float(), "total_moment", nullable=True),
        *columns(TEXT, "key_value_pairs", "data", "sha256"),
        *columns(
            sa.LargeBinary(), "numbers", "positions", "cell", "initial_charges", "initial_magmoms"
        ),
        *columns(
            sa.LargeBinary(), "tags", "forces", "stress", "moments", "bond_lengths", nullable=True
        ),
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("counts_for"),
    )
    op.create_table(
        "candidate",
        *columns(sa.Integer(), "id", "run", "generation", "known", "n_rejected"),
        *columns(TEXT, "composition", "operator", "origin", "fingerprint", "occupation_sha256"),
        *columns(sa.Float(), "x"),
        *columns(WIDE, "orbit_size"),
        *columns(sa.LargeBinary(), "occupation"),
        sa.CheckConstraint("id > 0", name="candidate_is_positive"),
        sa.CheckConstraint("known >= 0 AND n_rejected >= 0", name="candidate_counts"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run", "fingerprint", name="candidate_is_unique"),
        *references(run="run"),
    )
    op.create_index("candidate_by_composition", "candidate", ["composition", "x"])
    op.create_table(
        "evaluation",
        *columns(sa.Integer(), "id", "candidate", "level", "attempt", "n_crashes"),
        *columns(TEXT, "purpose", "state"),
        *columns(
            sa.Float(), "lease_ends", "energy", "fmax", "smax", "wall_s", "finished", nullable=True
        ),
        *columns(sa.Integer(), "result", "n_calls", nullable=True),
        *columns(TEXT, "verdict", "elements", "audit", "reason", nullable=True),
        *columns(sa.Boolean(), "converged", nullable=True),
        sa.CheckConstraint(
            "(result IS NOT NULL) = (verdict IS NOT NULL AND purpose = 'search')",
            name="evaluation_has_result",
        ),
        sa.CheckConstraint(
            "(state = 'relaxed') = (energy IS NOT NULL)", name="evaluation_has_energy"
        ),
        sa.CheckConstraint(
            "(state = 'relaxing') = (lease_ends IS NOT NULL)", name="evaluation_has_lease"
        ),
        sa.CheckConstraint(
            "(state IN ('relaxed', 'failed')) = (verdict IS NOT NULL)",
            name="evaluation_has_verdict",
        ),
        sa.CheckConstraint("purpose IN ('search', 'tight', 'dft')", name="evaluation_purpose"),
        sa.CheckConstraint(
            "state IN ('queued', 'relaxing', 'relaxed', 'failed')", name="evaluation_state"
        ),
        sa.CheckConstraint(
            "state NOT IN ('relaxed', 'failed') OR (state = 'failed') = (verdict = 'failed')",
            name="evaluation_failed",
        ),
        sa.CheckConstraint(
            "verdict IN ('ok', 'order_lost', 'broken', 'unconverged', 'failed')",
            name="evaluation_verdict",
        ),
        sa.CheckConstraint("attempt >= 0 AND n_crashes >= 0", name="evaluation_counts"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("candidate", "level", "purpose", name="evaluation_is_unique"),
        sa.UniqueConstraint("result"),
        *references(candidate="candidate", level="level"),
    )
    op.create_index("evaluation_by_state", "evaluation", ["state", "id"])
    op.create_table(
        "event",
        *columns(sa.Integer(), "id"),
        *columns(sa.Float(), "time"),
        *columns(TEXT, "kind", "data"),
        *columns(sa.Integer(), "candidate", nullable=True),
        sa.PrimaryKeyConstraint("id"),
        *references(candidate="candidate"),
    )
    op.create_index("event_by_candidate", "event", ["candidate", "id"])
    op.create_table(
        "parent",
        *columns(sa.Integer(), "child", "position", "parent"),
        sa.PrimaryKeyConstraint("child", "position"),
        *references(child="candidate", parent="candidate"),
    )
    op.create_index("parent_by_parent", "parent", ["parent"])
    op.create_table(
        "promotion",
        *columns(sa.Integer(), "id", "candidate", "level"),
        *columns(TEXT, "rule", "reason"),
        *columns(sa.Float(), "promoted"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("candidate", "level", "rule", name="promotion_is_unique"),
        *references(candidate="candidate", level="level"),
    )
    op.create_table(
        "dft_job",
        *columns(sa.Integer(), "id", "candidate", "level"),
        *columns(TEXT, "code", "folder", "state"),
        *columns(sa.Float(), "created", "changed"),
        *columns(sa.Integer(), "evaluation", "found", nullable=True),
        *columns(TEXT, "charge_order", "reason", nullable=True),
        sa.CheckConstraint(
            "charge_order IN ('kept', 'moved', 'delocalised')", name="dft_job_charge_order"
        ),
        sa.CheckConstraint(
            "state IN ('prepared', 'exported', 'running', 'collected', 'failed')",
            name="dft_job_state",
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("folder"),
        *references(
            candidate="candidate", evaluation="evaluation", found="candidate", level="level"
        ),
    )
    op.create_index("dft_job_by_candidate", "dft_job", ["candidate"])


def downgrade() -> None:
    """Remove all tables."""
    for name in (
        "dft_job",
        "promotion",
        "parent",
        "event",
        "evaluation",
        "candidate",
        "structure",
        "run",
        "level",
    ):
        op.drop_table(name)
