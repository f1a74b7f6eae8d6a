"""Results say how certain the potential was of them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_COLUMNS = ("energy_sigma", "force_sigma")


def upgrade() -> None:
    """Add the columns; nothing is known of older results."""
    for table in ("evaluation", "extra"):
        for name in _COLUMNS:
            op.add_column(table, sa.Column(name, sa.Float()))


def downgrade() -> None:
    """Remove the columns."""
    for table in ("evaluation", "extra"):
        for name in _COLUMNS:
            op.drop_column(table, name)
