"""Connections: SQLite and PostgreSQL behind the same two engines."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
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
    waiting is cheap and fair, instead of in SQLite, where it is neither. PostgreSQL uses one pool for both.
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
        if self.writer is not self.reader:
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
    engine = create_async_engine(
        url,
        pool_size=8,
        max_overflow=4,
        pool_pre_ping=False,  # a round trip per group; the writer tries once more on a dead connection instead
        pool_recycle=1800,
        connect_args={
            "timeout": _CONNECT_TIMEOUT,
            "command_timeout": STATEMENT_TIMEOUT,
            "server_settings": {"application_name": "attune-api", "timezone": "UTC"},
        },
        **common,
    )
    return Database(writer=engine, reader=engine)


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
