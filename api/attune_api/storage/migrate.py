"""Bring the tables up to date (Alembic): for ``attune-api migrate``, and as a program of its own.

``python -m attune_api.storage.migrate`` is what a server starts (:func:`attune_api.storage.revision.migrate_apart`). It loads no
more than it needs.
"""

import argparse
import asyncio
import os

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from attune_api.storage.database import Database
from attune_api.storage.faults import explain
from attune_api.storage.opening import open_database
from attune_api.storage.revision import MIGRATIONS, revision_of, take_turns
from attune_kit.logs import configure_logs

log = structlog.get_logger("attune_api.storage.migrate")


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration; ``connection`` is what ``migrations/env.py`` works on."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


async def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the tables to ``revision``, in one transaction; without effect when they are there already."""

    def run(connection: Connection) -> tuple[str | None, str | None]:
        take_turns(connection)
        before = revision_of(connection)
        command.upgrade(alembic_config(connection), revision)
        return before, revision_of(connection)

    before, after = await database.migrate(run)
    log.info("database_migrated", before=before, after=after)


async def downgrade(database: Database, revision: str) -> None:
    """Take the tables back to ``revision`` (``base`` for none), in one transaction."""
    await database.migrate(lambda connection: command.downgrade(alembic_config(connection), revision))


async def migrate(database_url: str) -> None:
    """Bring the tables of a database to the newest revision."""
    database = open_database(database_url)
    try:
        await upgrade(database)
    finally:
        await database.close()


def main() -> None:
    """The program of its own. The database's URL, which may hold a password, is in the environment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("level")
    parser.add_argument("style")
    options = parser.parse_args()
    configure_logs(level=options.level, style=options.style)
    try:
        asyncio.run(migrate(os.environ["ATTUNE_API_DATABASE_URL"]))
    except Exception as error:
        log.critical("migration_failed", error=explain(error), kind=type(error).__name__)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
