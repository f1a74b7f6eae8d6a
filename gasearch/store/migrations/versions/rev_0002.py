"""Candidates say how they were chosen, and within which budget."""

import sqlalchemy as sa
from alembic import op

from gasearch.store.schema import TEXT

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; nothing is known of older candidates."""
    budget = sa.Column("budget", sa.Integer(), nullable=False, server_default="0")
    op.add_column("candidate", budget)
    op.add_column("candidate", sa.Column("details", TEXT))


def downgrade() -> None:
    """Remove the columns."""
    op.drop_column("candidate", "details")
    op.drop_column("candidate", "budget")
