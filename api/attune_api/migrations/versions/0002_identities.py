"""Identities that tokens are minted for, and which tokens of each sensor are still accepted."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_JSON = sa.JSON()


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "identities",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("attributes", _JSON, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identities"),
        sa.UniqueConstraint("login", name="uq_identities_login"),
    )
    op.create_table(
        "sensor_identities",
        sa.Column("sensor_ref", sa.Text(), nullable=False),
        sa.Column("state", _JSON, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("sensor_ref", name="pk_sensor_identities"),
    )


def downgrade() -> None:
    """Take the tables away, and what is in them."""
    op.drop_table("sensor_identities")
    op.drop_table("identities")
