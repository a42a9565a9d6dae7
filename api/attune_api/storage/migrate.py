"""Bring the tables up to date (Alembic), for ``attune-api migrate``."""

from typing import Final

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from attune_api.storage.database import Database
from attune_api.storage.revision import MIGRATIONS

log = structlog.get_logger(__name__)

#: Held on PostgreSQL while migrating, so that replicas that start together take turns ("attune" in hexadecimal).
_LOCK: Final = 0x617474756E65


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration; ``connection`` is what ``migrations/env.py`` works on."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


async def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the tables to ``revision``, in one transaction; without effect when they are there already."""

    def run(connection: Connection) -> tuple[str | None, str | None]:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        before = _current(connection)
        command.upgrade(alembic_config(connection), revision)
        return before, _current(connection)

    before, after = await database.write(run)
    log.info("database_migrated", before=before, after=after)


async def downgrade(database: Database, revision: str) -> None:
    """Take the tables back to ``revision`` (``base`` for none), in one transaction."""
    await database.write(lambda connection: command.downgrade(alembic_config(connection), revision))
