"""Times by blocks of ``seq``, in place of an index on the time alone, which could not serve pages in the order of ``seq``."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table, and fill it from the events that are there."""
    op.create_table(
        "event_blocks",
        sa.Column("block", _SEQUENCE, autoincrement=False, nullable=False),
        sa.Column("first_occurred", _TIME, nullable=False),
        sa.Column("last_occurred", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("block", name="pk_event_blocks"),
    )
    op.execute(
        "INSERT INTO event_blocks (block, first_occurred, last_occurred) "
        "SELECT seq / 4096, min(occurred_at), max(occurred_at) FROM events GROUP BY seq / 4096"
    )
    op.drop_index("ix_events_occurred_at", "events")


def downgrade() -> None:
    """Take the table away, and put the index back."""
    op.create_index("ix_events_occurred_at", "events", ["occurred_at"])
    op.drop_table("event_blocks")
