"""Event ids are unique within a rule, where they were unique in the whole table: no rule can take the ids of another."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the index. Every id that was unique in the table is unique within its rule."""
    op.create_index("ix_events_id_rule_uid", "events", ["id", "rule_uid"], unique=True)
    op.drop_index("ix_events_id", "events")


def downgrade() -> None:
    """Put the old index back; fails, with nothing changed, while two rules share an id.

    Only one event of each id could stay, and which one is not for a migration to say.
    """
    shared = "SELECT count(*) FROM (SELECT id FROM events GROUP BY id HAVING count(*) > 1) AS shared"
    if number := op.get_bind().execute(sa.text(shared)).scalar_one():
        raise RuntimeError(
            f"{number} event ids are used by more than one rule, which the older tables do not allow. "
            "docs/decisions/0047 says how to keep one event of each"
        )
    op.create_index("ix_events_id", "events", ["id"], unique=True)
    op.drop_index("ix_events_id_rule_uid", "events")
