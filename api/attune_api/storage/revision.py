"""At which revision the tables are, and the tables of an empty database, without Alembic: a program that has nothing to migrate
never loads it (10 MiB, and a second of the first start).
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Connection, inspect, text

from attune_api.storage.database import Database
from attune_api.storage.tables import METADATA

log = structlog.get_logger(__name__)

#: Held on PostgreSQL while tables change, so that replicas that start together take turns ("attune" in hexadecimal).
_LOCK: Final = 0x617474756E65
#: As Alembic makes it.
_ALEMBIC_VERSION: Final = (
    "CREATE TABLE IF NOT EXISTS alembic_version "
    "(version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)

MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"


class MigrationError(RuntimeError):
    """The tables could not be brought up to date; the program that tried has logged why."""


def newest_revision() -> str:
    """The revision that this version of the program needs: that of the last migration by name."""
    names = [path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py")]
    if not names:
        raise RuntimeError(f"there are no migrations in {MIGRATIONS}")
    return max(names)


def revision_of(connection: Connection) -> str | None:
    """The revision the tables are at; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


async def current_revision(database: Database) -> str | None:
    """The revision the tables are at; None for an empty database."""
    return await database.write(revision_of)


def take_turns(connection: Connection) -> None:
    """Wait until no other program changes the tables, and keep others waiting until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


async def create_tables(database: Database) -> bool:
    """Make the tables of an empty database, as all the migrations together would; returns False, having done nothing, where
    there are tables of any revision.
    """
    newest = newest_revision()

    def create(connection: Connection) -> bool:
        take_turns(connection)
        if revision_of(connection) is not None:
            return False
        METADATA.create_all(connection, checkfirst=False)
        connection.execute(text(_ALEMBIC_VERSION))
        connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": newest})
        return True

    created = await database.write(create)
    if created:
        log.info("tables_created", revision=newest)
    return created


async def migrate_apart(database_url: str, *, log_level: str, log_format: str) -> None:
    """Bring the tables up to date by a program of its own, whose memory goes when it ends.

    Args:
        database_url: as in :class:`attune_api.settings.Settings`.
        log_level: of its log, which goes to where ours does.
        log_format: ``json`` or ``text``.

    Raises:
        MigrationError: it did not end well.
    """
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "attune_api.storage.migrate", log_level, log_format),
        env=os.environ | {"ATTUNE_API_DATABASE_URL": database_url},
    )
    try:
        status = await program.wait()
    except asyncio.CancelledError:
        # It works in one transaction, so that nothing is half done.
        program.terminate()
        await program.wait()
        raise
    if status != 0:
        raise MigrationError(f"the tables could not be brought up to date (status {status}); the log says why")
