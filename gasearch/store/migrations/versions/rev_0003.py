"""Late results are kept, and a commit whose acknowledgement was lost can be recognised."""

import sqlalchemy as sa
from alembic import op

from gasearch.store.schema import TEXT

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables; late results of older searches were not kept."""
    op.create_table(
        "extra",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("candidate", sa.Integer(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("purpose", TEXT, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("finished", sa.Float(), nullable=False),
        sa.Column("verdict", TEXT, nullable=False),
        sa.Column("energy", sa.Float()),
        sa.Column("n_calls", sa.Integer(), nullable=False),
        sa.Column("fmax", sa.Float()),
        sa.Column("smax", sa.Float()),
        sa.Column("converged", sa.Boolean()),
        sa.Column("wall_s", sa.Float()),
        sa.Column("elements", TEXT),
        sa.Column("audit", TEXT),
        sa.Column("reason", TEXT),
        sa.Column("n_atoms", sa.Integer(), nullable=False),
        sa.Column("volume", sa.Float(), nullable=False),
        sa.Column("mass", sa.Float(), nullable=False),
        sa.Column("charge", sa.Float(), nullable=False),
        sa.Column("total_moment", sa.Float()),
        sa.Column("pbc", sa.Integer(), nullable=False),
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
        sa.CheckConstraint("purpose IN ('search', 'tight')", name="extra_purpose"),
        sa.CheckConstraint(
            "verdict IN ('ok', 'order_lost', 'broken', 'unconverged', 'failed')",
            name="extra_verdict",
        ),
        sa.CheckConstraint("(verdict = 'failed') = (energy IS NULL)", name="extra_has_energy"),
        sa.ForeignKeyConstraint(["candidate"], ["candidate.id"]),
        sa.ForeignKeyConstraint(["level"], ["level.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "candidate",
            "level",
            "purpose",
            "attempt",
            "verdict",
            "sha256",
            name="extra_is_unique",
        ),
    )
    op.create_table(
        "last_write",
        sa.Column("writer", TEXT, nullable=False),
        sa.Column("token", TEXT, nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("writer"),
    )


def downgrade() -> None:
    """Remove the tables."""
    op.drop_table("last_write")
    op.drop_table("extra")
