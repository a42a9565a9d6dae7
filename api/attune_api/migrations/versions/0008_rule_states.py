"""What sensors remember of rules about events."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "rule_states",
        sa.Column("rule_uid", sa.Text(), nullable=False),
        sa.Column("generation", _SEQUENCE, nullable=False),
        sa.Column("position", _SEQUENCE, nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("rule_uid", name="pk_rule_states"),
    )
    op.create_index("ix_rule_states_updated_at", "rule_states", ["updated_at"])


def downgrade() -> None:
    """Take the table away: rules about events begin again."""
    op.drop_table("rule_states")
