"""The trace that an event belongs to. Events that are there have none, and neither have those that an older replica stores."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Neither database rewrites its rows for it."""
    for name in ("traceparent", "tracestate"):
        op.add_column("events", sa.Column(name, sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Take them away, and the traces with them."""
    for name in ("tracestate", "traceparent"):
        op.drop_column("events", name)
