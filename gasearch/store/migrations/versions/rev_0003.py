"""Late results are kept, and a commit whose acknowledgement was lost can be recognised."""

import sqlalchemy as sa
from alembic import op

from gasearch.store.migrations import columns, references
from gasearch.store.schema import TEXT

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables; late results of older searches were not kept."""
    op.create_table(
        "extra",
        *columns(sa.Integer(), "id", "candidate", "level", "attempt", "n_calls", "n_atoms", "pbc"),
        *columns(TEXT, "purpose", "verdict", "sha256"),
        *columns(sa.Float(), "finished", "volume", "mass", "charge"),
        *columns(sa.Float(), "energy", "fmax", "smax", "wall_s", "total_moment", nullable=True),
        *columns(sa.Boolean(), "converged", nullable=True),
        *columns(TEXT, "elements", "audit", "reason", nullable=True),
        *columns(
            sa.LargeBinary(), "numbers", "positions", "cell", "initial_charges", "initial_magmoms"
        ),
        *columns(
            sa.LargeBinary(), "tags", "forces", "stress", "moments", "bond_lengths", nullable=True
        ),
        sa.CheckConstraint("purpose IN ('search', 'tight')", name="extra_purpose"),
        sa.CheckConstraint(
            "verdict IN ('ok', 'order_lost', 'broken', 'unconverged', 'failed')",
            name="extra_verdict",
        ),
        sa.CheckConstraint("(verdict = 'failed') = (energy IS NULL)", name="extra_has_energy"),
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
        *references(candidate="candidate", level="level"),
    )
    op.create_table(
        "last_write",
        *columns(TEXT, "writer", "token"),
        *columns(sa.Float(), "time"),
        sa.PrimaryKeyConstraint("writer"),
    )


def downgrade() -> None:
    """Remove the tables."""
    op.drop_table("last_write")
    op.drop_table("extra")
