"""Results say what is left of a hold."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; nothing was held in older runs."""
    for table in ("evaluation", "extra"):
        op.add_column(table, sa.Column("penalty", sa.Float()))


def downgrade() -> None:
    """Remove the column."""
    for table in ("evaluation", "extra"):
        op.drop_column(table, "penalty")
