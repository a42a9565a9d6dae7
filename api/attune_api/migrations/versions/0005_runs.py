"""Runs of actions, what became of each rule's, and the numbers of their changes."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON()

_INDEXES = (
    ("rule_uid", "seq"),
    ("rule_namespace", "seq"),
    ("rule_namespace", "rule_name", "seq"),
    ("state", "seq"),
    ("event_id",),
)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("revision", _SEQUENCE, nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("event_seq", _SEQUENCE, nullable=False),
        sa.Column("rule_uid", sa.Text(), nullable=False),
        sa.Column("rule_namespace", sa.Text(), nullable=False),
        sa.Column("rule_name", sa.Text(), nullable=False),
        sa.Column("rule_generation", _SEQUENCE, nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.Column("stored_at", _TIME, nullable=False),
        sa.Column("next_attempt_at", _TIME, nullable=True),
        sa.Column("attempts_made", _SEQUENCE, nullable=False),
        sa.Column("attempts", _JSON, nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("result", _JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_seq", "runs", ["seq"], unique=True)
    for columns in _INDEXES:
        op.create_index("ix_runs_" + "_".join(columns), "runs", list(columns))
    op.create_table(
        "run_summaries",
        sa.Column("rule_uid", sa.Text(), nullable=False),
        sa.Column("rule_namespace", sa.Text(), nullable=False),
        sa.Column("rule_name", sa.Text(), nullable=False),
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("succeeded", _SEQUENCE, nullable=False),
        sa.Column("failed", _SEQUENCE, nullable=False),
        sa.Column("skipped", _SEQUENCE, nullable=False),
        sa.Column("waiting", _SEQUENCE, nullable=False),
        sa.Column("last_run_at", _TIME, nullable=True),
        sa.Column("last_success_at", _TIME, nullable=True),
        sa.Column("last_failure_at", _TIME, nullable=True),
        sa.Column("last_failure_run", sa.Uuid(), nullable=True),
        sa.Column("last_failure_action", sa.Text(), nullable=False),
        sa.Column("last_failure_state", sa.Text(), nullable=False),
        sa.Column("last_failure_reason", sa.Text(), nullable=False),
        sa.Column("last_failure_message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("rule_uid", name="pk_run_summaries"),
    )
    op.create_index("ix_run_summaries_seq", "run_summaries", ["seq"])
    op.create_table(
        "run_numbers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last", _SEQUENCE, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_run_numbers"),
    )


def downgrade() -> None:
    """Take the tables away, and what is in them."""
    op.drop_table("run_numbers")
    op.drop_table("run_summaries")
    op.drop_table("runs")
