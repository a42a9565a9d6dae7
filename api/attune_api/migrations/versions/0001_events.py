"""Events, and how far they were passed on."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out, not imported from the program: a migration must go on meaning what it meant.
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON()

_INDEXES = (
    ("rule_uid", "seq"),
    ("rule_namespace", "seq"),
    ("rule_namespace", "rule_name", "seq"),
    ("trigger_type", "seq"),
    ("sensor_ref", "seq"),
    ("occurred_at",),
)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "events",
        sa.Column("seq", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("trigger_type", sa.Text(), nullable=False),
        sa.Column("rule_uid", sa.Text(), nullable=False),
        sa.Column("rule_namespace", sa.Text(), nullable=False),
        sa.Column("rule_name", sa.Text(), nullable=False),
        sa.Column("sensor_ref", sa.Text(), nullable=False),
        sa.Column("occurred_at", _TIME, nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("payload", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_id", "events", ["id"], unique=True)
    for columns in _INDEXES:
        op.create_index("ix_events_" + "_".join(columns), "events", list(columns))
    op.create_table(
        "outbox",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", _SEQUENCE, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_outbox"),
    )


def downgrade() -> None:
    """Take the tables away, and what is in them."""
    op.drop_table("outbox")
    op.drop_table("events")
