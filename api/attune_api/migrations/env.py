"""Alembic's environment: works on the connection that ``attune_api.storage.migrate`` hands over."""

from alembic import context
from sqlalchemy import Connection

from attune_api.storage.tables import METADATA


def run() -> None:
    """Run the migrations in the caller's transaction."""
    connection = context.config.attributes.get("connection")
    if not isinstance(connection, Connection):
        raise RuntimeError("use `attune-api migrate`, or attune_api.storage.migrate")
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        compare_type=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


run()
