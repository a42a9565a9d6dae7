"""Connections: SQLite and PostgreSQL behind the same methods.

What works on rows is written once, as plain functions that are handed a SQLAlchemy ``Connection`` and stay out of the
event loop: on PostgreSQL asyncpg runs them (SQLAlchemy's ``run_sync``), on SQLite a thread does. Not aiosqlite, which goes
to a thread and back for every statement, begin, fetch and commit: for a small transaction that is three times the work.
"""

import asyncio
import contextlib
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from attune_api.storage.types import decode_json, encode_json

#: Seconds after which a statement or a wait for a connection is given up.
STATEMENT_TIMEOUT: Final = 30.0
#: Seconds after which the database itself gives up a query of a reader, so that none runs on after its reader has left.
QUERY_TIMEOUT: Final = 10.0
_BUSY_TIMEOUT_MS: Final = 5000
_READERS: Final = 4
#: After so many seconds without a write, the log of so many changed rows is copied into the database, so that no commit has to
#: do it while events wait: those of an hour or a minute come together.
_QUIET: Final = 0.2
_MANY_CHANGES: Final = 300
#: Instructions of SQLite's machine between looks at the clock.
_LOOK_EVERY: Final = 50_000

# Durability (SQLite): an answer 201 means that the event survives a kill of this process and, with FULL, a power cut:
# the write-ahead log is synced before a commit returns. NORMAL would lose the last commits on a power cut. What FULL
# costs is shared by all the requests of a group commit.
_SQLITE_WRITER: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}",
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_size_limit = 67108864",
    # KiB, negated. Ids are random, so each event changes another page of their index. With SQLite's own 2 MiB, pages were
    # written to the log and read again within one transaction: a third of the processor time of storing events.
    "PRAGMA cache_size = -16384",
    # Pages (8 MiB) after which a commit copies the log into the database. The same pages of the index of ids come again
    # and again, and are copied once each time: twice SQLite's own 1000 saves a seventh of what is written. More would
    # save more, but the one commit that copies them would keep those who wait for it longer (12 ms, 22 with 4000). Mostly it
    # is copied before, when nothing is written (_QUIET).
    "PRAGMA wal_autocheckpoint = 2000",
)
_SQLITE_READER: Final = (
    f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}",
    "PRAGMA query_only = ON",
)

_T = TypeVar("_T")
Work = Callable[[Connection], _T]


class QueryTooSlowError(TimeoutError):
    """A query was given up after :data:`QUERY_TIMEOUT`: it asks for too much at once."""


class FileReplacedError(OSError):
    """SQLite's file is another one than that which was opened, or is gone: what would be stored would be lost."""


class Database(ABC):
    """A database that rows are written to and read from."""

    #: Whether other processes may work with it at the same time as this one.
    has_replicas: ClassVar[bool]

    @abstractmethod
    async def write(self, work: Work[_T]) -> _T:
        """Run ``work`` in a transaction, commit, and return what it returned; whatever it raises rolls back.

        If the caller is cancelled or the time is up, the transaction may be committed all the same.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: see :func:`attune_api.storage.faults.is_outage`.
        """

    @abstractmethod
    async def read(self, work: Work[_T]) -> _T:
        """Run ``work``, which only reads, and return what it returned. All its queries see the same rows.

        Raises:
            QueryTooSlowError: a query took more than :data:`QUERY_TIMEOUT`.
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: see :func:`attune_api.storage.faults.is_outage`.
        """

    @abstractmethod
    async def migrate(self, work: Work[_T]) -> _T:
        """As :meth:`write`, for as long as it takes: an index on millions of rows is made in minutes.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError: see :func:`attune_api.storage.faults.is_outage`.
        """

    def fault(self) -> str | None:
        """What is wrong with it that only a restart of the program mends, and what to do; or None."""
        return None

    @abstractmethod
    async def close(self) -> None:
        """Close all connections, when what is running on them is done."""


#: What every engine is made with.
ENGINE: Final[dict[str, Any]] = {
    "json_serializer": encode_json,
    "json_deserializer": decode_json,
    "hide_parameters": True,  # payloads belong to users and are kept out of logs and error messages
}
#: What every engine with a pool is made with.
POOLED: Final[dict[str, Any]] = {**ENGINE, "pool_timeout": STATEMENT_TIMEOUT}


class SqliteDatabase(Database):
    """One file. It takes one writer at a time, so one thread writes, and other writers wait for that thread:
    in Python, where waiting is cheap and fair, instead of in SQLite, where it is neither. Readers disturb nobody (WAL).
    """

    has_replicas = False

    def __init__(self, url: URL) -> None:
        if url.database and not url.database.startswith("file:"):
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        self._file = None if not url.database or url.database.startswith("file:") else Path(url.database)
        self._opened: tuple[int, int] | None = None
        self._writer = _sqlite_engine(url, pragmas=_SQLITE_WRITER, begin="BEGIN IMMEDIATE", pool_size=1)
        self._reader = _sqlite_engine(url, pragmas=_SQLITE_READER, begin="BEGIN", pool_size=_READERS)
        self._quiet: asyncio.TimerHandle | None = None
        self._copied = 0  # changed rows of the connection that writes when its log was copied last
        self._closed = False
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-write")
        self._read_threads = ThreadPoolExecutor(_READERS, thread_name_prefix="sqlite-read")

    async def write(self, work: Work[_T]) -> _T:
        """See :meth:`Database.write`."""
        async with asyncio.timeout(STATEMENT_TIMEOUT):
            return await self.migrate(work)

    async def migrate(self, work: Work[_T]) -> _T:
        """See :meth:`Database.migrate`."""

        def run() -> _T:
            with self._writer.begin() as connection:
                if self._opened is None:
                    self._opened = self._identity()
                if fault := self.fault():
                    raise FileReplacedError(fault)
                return work(connection)

        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._write_thread, run)
        finally:
            if self._quiet is not None:
                self._quiet.cancel()
            if not self._closed:
                self._quiet = loop.call_later(_QUIET, loop.run_in_executor, self._write_thread, self._copy_log)

    def _copy_log(self) -> None:
        """Copy the log into the database if there is much of it; in the thread that writes. Else the next commit does it."""
        with (
            contextlib.suppress(SQLAlchemyError, sqlite3.Error),
            contextlib.closing(self._writer.raw_connection()) as raw,
        ):
            driver: Any = raw.driver_connection
            if driver.total_changes - self._copied >= _MANY_CHANGES:
                driver.execute("PRAGMA wal_checkpoint(PASSIVE)").close()
                self._copied = driver.total_changes

    async def read(self, work: Work[_T]) -> _T:
        """See :meth:`Database.read`."""

        def run() -> _T:
            with self._reader.connect() as connection:
                ends = time.monotonic() + QUERY_TIMEOUT
                driver: Any = connection.connection.driver_connection
                driver.set_progress_handler(lambda: time.monotonic() > ends, _LOOK_EVERY)
                try:
                    return work(connection)
                except OperationalError as error:
                    if str(error.orig) == "interrupted":
                        raise QueryTooSlowError from error
                    raise
                finally:
                    driver.set_progress_handler(None, 0)

        async with asyncio.timeout(STATEMENT_TIMEOUT):
            return await asyncio.get_running_loop().run_in_executor(self._read_threads, run)

    def fault(self) -> str | None:
        """See :meth:`Database.fault`. SQLite goes on with the file that it has opened, also when nobody else finds it."""
        if self._opened is None or self._identity() == self._opened:
            return None
        what = "was replaced" if self._file is not None and self._file.exists() else "was removed"
        return f"{self._file} {what} while the API ran, and nothing can be stored; restart the API"

    def _identity(self) -> tuple[int, int] | None:
        """Device and inode of the file that has its name now."""
        if self._file is None:
            return None
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    async def close(self) -> None:
        """See :meth:`Database.close`."""

        def close() -> None:
            self._read_threads.shutdown()
            self._write_thread.shutdown()
            self._reader.dispose()
            self._writer.dispose()

        self._closed = True
        if self._quiet is not None:
            self._quiet.cancel()
        await asyncio.to_thread(close)


def _sqlite_engine(url: URL, *, pragmas: tuple[str, ...], begin: str, pool_size: int) -> Engine:
    engine = create_engine(url, pool_size=pool_size, max_overflow=0, **POOLED)

    # Python's sqlite3 opens transactions by itself, too late and of the wrong kind; so it is switched off, and BEGIN is
    # said here (SQLAlchemy documentation, "SQLite: serializable isolation / savepoints / transactional DDL").
    @event.listens_for(engine, "connect")
    def _connect(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
