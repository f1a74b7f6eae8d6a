"""The first schema."""

import sqlalchemy as sa
from alembic import op

from gasearch.store.schema import TEXT, WIDE

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "level",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("potential", TEXT, nullable=False),
        sa.Column("weights_hash", TEXT, nullable=False),
        sa.Column("probe_energies", TEXT, nullable=False),
        sa.Column("ranks_only", sa.Boolean(), nullable=False),
        sa.Column("settings", TEXT),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", TEXT, nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("seed", TEXT, nullable=False),
        sa.Column("n_formula_units", sa.Integer(), nullable=False),
        sa.Column("host", TEXT, nullable=False),
        sa.Column("settings", TEXT, nullable=False),
        sa.Column("operational", TEXT, nullable=False),
        sa.Column("versions", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "structure",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("counts_for", sa.Integer()),
        sa.Column("n_atoms", sa.Integer(), nullable=False),
        sa.Column("volume", sa.Float(), nullable=False),
        sa.Column("mass", sa.Float(), nullable=False),
        sa.Column("charge", sa.Float(), nullable=False),
        sa.Column("total_moment", sa.Float()),
        sa.Column("pbc", sa.Integer(), nullable=False),
        sa.Column("key_value_pairs", TEXT, nullable=False),
        sa.Column("data", TEXT, nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("numbers", sa.LargeBinary(), nullable=False),
        sa.Column("positions", sa.LargeBinary(), nullable=False),
        sa.Column("cell", sa.LargeBinary(), nullable=False),
        sa.Column("initial_charges", sa.LargeBinary(), nullable=False),
        sa.Column("initial_magmoms", sa.LargeBinary(), nullable=False),
        sa.Column("tags", sa.LargeBinary()),
        sa.Column("forces", sa.LargeBinary()),
        sa.Column("stress", sa.LargeBinary()),
        sa.Column("moments", sa.LargeBinary()),
        sa.Column("bond_lengths", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("counts_for"),
    )
    op.create_table(
        "candidate",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("composition", TEXT, nullable=False),
        sa.Column("x", sa.Float(), nullable=False),
        sa.Column("orbit_size", WIDE, nullable=False),
        sa.Column("operator", TEXT, nullable=False),
        sa.Column("origin", TEXT, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("known", sa.Integer(), nullable=False),
        sa.Column("n_rejected", sa.Integer(), nullable=False),
        sa.Column("fingerprint", TEXT, nullable=False),
        sa.Column("occupation_sha256", TEXT, nullable=False),
        sa.Column("occupation", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("id > 0", name="candidate_is_positive"),
        sa.CheckConstraint("known >= 0 AND n_rejected >= 0", name="candidate_counts"),
        sa.ForeignKeyConstraint(["run"], ["run.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run", "fingerprint", name="candidate_is_unique"),
    )
    op.create_index("candidate_by_composition", "candidate", ["composition", "x"])
    op.create_table(
        "evaluation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("candidate", sa.Integer(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("purpose", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("n_crashes", sa.Integer(), nullable=False),
        sa.Column("lease_ends", sa.Float()),
        sa.Column("result", sa.Integer()),
        sa.Column("verdict", TEXT),
        sa.Column("energy", sa.Float()),
        sa.Column("n_calls", sa.Integer()),
        sa.Column("fmax", sa.Float()),
        sa.Column("smax", sa.Float()),
        sa.Column("converged", sa.Boolean()),
        sa.Column("wall_s", sa.Float()),
        sa.Column("finished", sa.Float()),
        sa.Column("elements", TEXT),
        sa.Column("audit", TEXT),
        sa.Column("reason", TEXT),
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
        sa.ForeignKeyConstraint(["candidate"], ["candidate.id"]),
        sa.ForeignKeyConstraint(["level"], ["level.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("candidate", "level", "purpose", name="evaluation_is_unique"),
        sa.UniqueConstraint("result"),
    )
    op.create_index("evaluation_by_state", "evaluation", ["state", "id"])
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("candidate", sa.Integer()),
        sa.Column("data", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["candidate"], ["candidate.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("event_by_candidate", "event", ["candidate", "id"])
    op.create_table(
        "parent",
        sa.Column("child", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["child"], ["candidate.id"]),
        sa.ForeignKeyConstraint(["parent"], ["candidate.id"]),
        sa.PrimaryKeyConstraint("child", "position"),
    )
    op.create_index("parent_by_parent", "parent", ["parent"])
    op.create_table(
        "promotion",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("candidate", sa.Integer(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("rule", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("promoted", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["candidate"], ["candidate.id"]),
        sa.ForeignKeyConstraint(["level"], ["level.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("candidate", "level", "rule", name="promotion_is_unique"),
    )
    op.create_table(
        "dft_job",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("candidate", sa.Integer(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("code", TEXT, nullable=False),
        sa.Column("folder", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("changed", sa.Float(), nullable=False),
        sa.Column("evaluation", sa.Integer()),
        sa.Column("found", sa.Integer()),
        sa.Column("charge_order", TEXT),
        sa.Column("reason", TEXT),
        sa.CheckConstraint(
            "charge_order IN ('kept', 'moved', 'delocalised')", name="dft_job_charge_order"
        ),
        sa.CheckConstraint(
            "state IN ('prepared', 'exported', 'running', 'collected', 'failed')",
            name="dft_job_state",
        ),
        sa.ForeignKeyConstraint(["candidate"], ["candidate.id"]),
        sa.ForeignKeyConstraint(["evaluation"], ["evaluation.id"]),
        sa.ForeignKeyConstraint(["found"], ["candidate.id"]),
        sa.ForeignKeyConstraint(["level"], ["level.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("folder"),
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
