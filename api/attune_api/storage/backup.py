"""A copy of the SQLite file, made while the API runs."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy.engine import make_url

_TIMEOUT: Final = 30.0


class BackupError(RuntimeError):
    """There is nothing to copy, or nowhere to copy to; the text says which, and what to do."""


def _file(database_url: str) -> Path:
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise BackupError("this copies SQLite files; of PostgreSQL, pg_dump makes a backup")
    return Path(url.database)


def sqlite_directory(database_url: str) -> Path:
    """The directory of the SQLite file, where there is room for a copy of it, if anywhere.

    Raises:
        BackupError: it is no SQLite file.
    """
    return _file(database_url).parent


def back_up(database_url: str, target: Path) -> int:
    """Write a whole, consistent copy of the database as it is now, and return its size in bytes.

    ``VACUUM INTO`` reads in one transaction, which in WAL mode keeps neither writers nor readers waiting; the copy has no
    write-ahead log of its own. It appears under its name when it is complete and on disk.

    Args:
        database_url: of :class:`attune_api.settings.Settings`.
        target: a file that is not there yet.

    Raises:
        BackupError: there is none to be had.
        OSError: the copy could not be written.
    """
    source = _file(database_url)
    if not source.is_file():
        raise BackupError(f"there is no database at {source}")
    if target.exists():
        raise BackupError(f"{target} is there already, and is not overwritten")
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(f"file:{quote(str(source))}?mode=rw", uri=True, timeout=_TIMEOUT)) as connection:
            connection.execute("VACUUM INTO ?", (str(part),))
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.rename(target)
    except sqlite3.Error as error:
        raise BackupError(f"SQLite could not copy {source}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return target.stat().st_size
