"""Connections: SQLite and PostgreSQL behind the same two engines."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from attune_api.storage.types import decode_json, encode_json

#: Seconds after which a statement or a wait for a connection is given up.
STATEMENT_TIMEOUT: Final = 30.0
_CONNECT_TIMEOUT: Final = 10.0
_BUSY_TIMEOUT_MS: Final = 5000

# Durability (SQLite): an answer 201 means that the event survives a kill of this process and, with FULL, a power cut:
# the write-ahead log is synced before a commit returns. NORMAL would lose the last commits on a power cut. What FULL
# costs is shared by all the requests of a group commit.
_SQLITE_WRITER: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}",
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_size_limit = 67108864",
)
_SQLITE_READER: Final = (
    f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}",
    "PRAGMA query_only = ON",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """``writer`` for what changes rows, ``reader`` for everything else.

    SQLite takes one writer at a time, so its writer engine has one connection and everyone queues for it in Python, where
    waiting is cheap and fair, instead of in SQLite, where it is neither. On PostgreSQL they are two pools, so that slow
    readers leave the writer its connections.
    """

    writer: AsyncEngine
    reader: AsyncEngine

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a SQLite file."""
        return self.writer.dialect.name == "sqlite"

    async def check(self) -> None:
        """Ask the database for an answer.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: there is none.
        """
        async with self.reader.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close all connections."""
        await self.reader.dispose()
        await self.writer.dispose()


def open_database(database_url: str) -> Database:
    """Engines for a URL of :class:`attune_api.settings.Settings`. Connects on first use."""
    url = make_url(database_url)
    common: dict[str, Any] = {
        "json_serializer": encode_json,
        "json_deserializer": decode_json,
        "pool_timeout": STATEMENT_TIMEOUT,
        "hide_parameters": True,  # payloads belong to users and are kept out of logs and error messages
    }
    if url.get_backend_name() == "sqlite":
        return Database(
            writer=_sqlite(url, pragmas=_SQLITE_WRITER, begin="BEGIN IMMEDIATE", pool_size=1, common=common),
            reader=_sqlite(url, pragmas=_SQLITE_READER, begin="BEGIN", pool_size=4, common=common),
        )
    connect: dict[str, Any] = {
        "timeout": _CONNECT_TIMEOUT,
        "command_timeout": STATEMENT_TIMEOUT,
        "server_settings": {"application_name": "attune-api", "timezone": "UTC"},
    }
    common |= {"connect_args": connect, "pool_recycle": 1800}
    return Database(
        # No ping, which would be a round trip per group: the event writer tries once more on a dead connection instead.
        writer=create_async_engine(url, pool_size=4, max_overflow=4, **common),
        reader=create_async_engine(url, pool_size=8, max_overflow=8, pool_pre_ping=True, **common),
    )


def _sqlite(url: URL, *, pragmas: tuple[str, ...], begin: str, pool_size: int, common: dict[str, Any]) -> AsyncEngine:
    if url.database and not url.database.startswith("file:"):
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(url, pool_size=pool_size, max_overflow=0, **common)

    # Python's sqlite3 opens transactions by itself, too late and of the wrong kind; so it is switched off, and BEGIN is
    # said here (SQLAlchemy documentation, "SQLite: serializable isolation / savepoints / transactional DDL").
    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def is_outage(error: Exception) -> bool:
    """Whether an error is about the database as such (away, locked, full, slow) and may be gone on the next try."""
    if isinstance(error, DBAPIError):
        return isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated
    return isinstance(error, OSError | TimeoutError | PoolTimeout)


def is_about_a_row(error: Exception) -> bool:
    """Whether the database, or its driver, refused a value; the same row would be refused again.

    asyncpg's errors have no class for that in SQLAlchemy, but a code: classes 22 and 23 (PostgreSQL manual, appendix A).
    """
    if isinstance(error, DBAPIError):
        code = getattr(error.orig, "sqlstate", None) or ""
        return isinstance(error, DataError | IntegrityError) or code[:2] in ("22", "23")
    return isinstance(error, StatementError)  # a value that could not be turned into a parameter
