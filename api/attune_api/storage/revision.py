"""At which revision the tables are, without Alembic: a program whose tables are up to date never loads it (10 MiB)."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Connection, inspect, text

from attune_api.storage.database import Database

log = structlog.get_logger(__name__)

MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"


class MigrationFailed(RuntimeError):  # noqa: N818 - read as a sentence
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


async def migrate_apart(database_url: str, *, log_level: str, log_format: str) -> None:
    """Bring the tables up to date by a program of its own, whose memory goes when it ends.

    Args:
        database_url: as in :class:`attune_api.settings.Settings`.
        log_level: of its log, which goes to where ours does.
        log_format: ``json`` or ``console``.

    Raises:
        MigrationFailed: it did not end well.
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
        raise MigrationFailed(f"the tables could not be brought up to date (status {status}); the log says why")
