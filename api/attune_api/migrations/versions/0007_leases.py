"""Leases, by which one replica publishes and deletes, and the epoch of the one that publishes.

``outbox.position`` becomes ``published``, so that a replica of an older version, which knows no lease, publishes no more.
It goes on storing events, and answers that it is ready.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the table, and the column."""
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("epoch", _SEQUENCE, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    # SQLite would put a column that is added behind the table's constraints, where create_all does not have it.
    with op.batch_alter_table(
        "outbox", recreate="always" if op.get_bind().dialect.name == "sqlite" else "never"
    ) as outbox:
        outbox.alter_column("position", new_column_name="published", existing_type=_SEQUENCE, existing_nullable=False)
        outbox.add_column(sa.Column("epoch", _SEQUENCE, nullable=False, server_default="0"))


def downgrade() -> None:
    """Take both away; the position stays."""
    with op.batch_alter_table("outbox") as outbox:
        outbox.drop_column("epoch")
        outbox.alter_column("published", new_column_name="position", existing_type=_SEQUENCE, existing_nullable=False)
    op.drop_table("leases")
