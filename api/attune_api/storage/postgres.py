"""PostgreSQL: pools of connections that follow the primary.

Three things happen to a server that is highly available. It dies, and its connections with it. It comes back as a standby,
and still answers. Or it vanishes without a word, and its connections stay as they are for minutes. What is connected to the
server that was must go in each case, all at once: every other pooled connection is as old.

- Connections are opened to a server that takes writes (:mod:`attune_kit.postgres.connect`).
- An error that tells of the end of a server (:func:`attune_api.storage.faults.is_dead`) throws the pools away.
- Work that takes long makes a look at the server, by a connection of its own: when there is no answer, or that of another
  server, the pools are thrown away, which ends the work that waits. A server that is only slow, or a row that is locked,
  is waited for.

There may be a pooler in between that gives each transaction another process of the server (PgBouncer in transaction mode). So
nothing is kept in a session then: statements have no names, and settings are made in each transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

import asyncpg
import structlog
from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool
from sqlalchemy.util import await_only

from attune_api.storage.database import (
    ENGINE,
    POOLED,
    QUERY_TIMEOUT,
    STATEMENT_TIMEOUT,
    Database,
    QueryTooSlowError,
    Work,
)
from attune_api.storage.faults import OUTAGES, is_about_the_end, is_dead, sqlstate
from attune_api.storage.postgres_session import Session, local_settings, set_up, started_at
from attune_kit.postgres.connect import ConnectError, Connector
from attune_kit.postgres.url import parse

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

#: Seconds after which work is late: then it is asked whether the server is still there, again and again while it is.
_LATE_AFTER: Final = 2.5
_LOOK_EVERY: Final = 1.0
#: Seconds that the server has to answer such a question.
_ANSWER_WITHIN: Final = 2.0
#: So many questions in a row must be in vain before a server counts as gone: a busy one may miss one. When another server
#: answers, one is enough.
_LOOKS: Final = 2
#: Seconds for saying goodbye to the server.
_CLOSE_TIMEOUT: Final = 2.0
_POOLED: Final = "pooled"  # whether there is a pooler, among what is known of a connection
# PostgreSQL manual, appendix A.
_CANCELLED: Final = "57014"  # query_canceled
#: A statement's name is taken, or not known: duplicate_prepared_statement, invalid_sql_statement_name. In a session of our own
#: that cannot be.
_OTHERS_STATEMENTS: Final = ("42P05", "26000")


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a connection comes from: how often connections had been thrown away before, and from which server process."""

    generation: int
    session: Session


class PostgresDatabase(Database):
    """A PostgreSQL server, by asyncpg. Two pools, so that slow readers leave the writer its connections.

    Args:
        database_url: see :mod:`attune_kit.postgres.url`.

    Raises:
        ValueError: that cannot be read.
    """

    has_replicas = True

    def __init__(self, database_url: str) -> None:
        url = parse(database_url)
        if url.binds_channel:
            log.warning(
                "channel_binding_not_supported", advice="check the server by sslmode=verify-full and sslrootcert"
            )
        settings = {"application_name": "attune-api", "timezone": "UTC"}
        # Pages are walks along an index (events.statements). The planner, which cannot tell how many rows a range of rows
        # has, now and then holds it short, and would read all of it into a bitmap to sort it: seconds, for a page.
        reads = {"statement_timeout": f"{QUERY_TIMEOUT:.0f}s", "enable_bitmapscan": "off"}
        connector = partial(Connector, url, command_timeout=STATEMENT_TIMEOUT)
        self._to_write = connector(settings=settings, attributes="read-write")
        # Not from a standby, which is behind, and may for ever be that of another primary.
        self._to_read = connector(settings=settings, attributes="primary")
        self._to_migrate = Connector(url, settings=settings, attributes="read-write", command_timeout=None)
        # No ping, which would be three round trips each time: work is done once more on a dead connection instead.
        self._writer = _engine(partial(self._open, self._to_write, {}), **POOLED, pool_size=4, max_overflow=4)
        # A page is made of several queries, which must see the same rows, as they do in SQLite's read transactions.
        self._reader = _engine(
            partial(self._open, self._to_read, reads),
            local=reads,
            **POOLED,
            pool_size=8,
            max_overflow=8,
            isolation_level="REPEATABLE READ",
        )
        self._connections: dict[asyncpg.Connection, _Origin] = {}
        self._generation = 0
        self._pooled: bool | None = None  # as long as no connection has told
        self._late: set[object] = set()
        self._look: asyncio.Task[None] | None = None

    async def write(self, work: Work[_T]) -> _T:
        """See :meth:`Database.write`. Run again, once, when a pooled connection turns out to be dead before the commit."""
        committing = False

        async def run(connection: AsyncConnection) -> _T:
            nonlocal committing
            done = await connection.run_sync(work)
            committing = True
            await connection.commit()
            return done

        return await self._run(self._writer, run, once_more=lambda: not committing)

    async def read(self, work: Work[_T]) -> _T:
        """See :meth:`Database.read`. Run again, once, when a pooled connection turns out to be dead."""

        async def run(connection: AsyncConnection) -> _T:
            try:
                return await connection.run_sync(work)
            except DBAPIError as error:
                if sqlstate(error) == _CANCELLED:
                    raise QueryTooSlowError from error
                raise

        return await self._run(self._reader, run, once_more=lambda: True)

    async def _run(
        self, engine: AsyncEngine, run: Callable[[AsyncConnection], Awaitable[_T]], *, once_more: Callable[[], bool]
    ) -> _T:
        async with asyncio.timeout(STATEMENT_TIMEOUT):
            generation = self._generation
            try:
                with self._watched():
                    async with engine.connect() as connection:
                        return await run(connection)
            except (DBAPIError, OSError) as error:
                if not self._is_over(error, generation) or not once_more():
                    raise
            with self._watched():
                async with engine.connect() as connection:
                    return await run(connection)

    async def migrate(self, work: Work[_T]) -> _T:
        """See :meth:`Database.migrate`. On a connection of its own, whose statements have no bound."""
        engine = _engine(partial(self._connect, self._to_migrate, {}), **ENGINE, poolclass=NullPool)
        async with engine.begin() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        """See :meth:`Database.close`."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)
        with suppress(*OUTAGES):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._reader.dispose()
                await self._writer.dispose()
        self._throw_away(list(self._connections))

    async def _open(self, connector: Connector, session: Mapping[str, str]) -> tuple[asyncpg.Connection, Session]:
        """A connection that is thrown away with the others when one of them ends."""
        generation = self._generation
        connection, made = await self._connect(connector, session)
        self._connections[connection] = _Origin(generation, made)
        connection.add_termination_listener(lambda ended: self._connections.pop(ended, None))
        return connection, made

    async def _connect(self, connector: Connector, session: Mapping[str, str]) -> tuple[asyncpg.Connection, Session]:
        """A connection that keeps statements only where there is no pooler; opened again when that is another way than before."""
        while True:
            keeps_statements = self._pooled is False
            try:
                connection = await connector.connect(keeps_statements=keeps_statements)
                try:
                    made = await set_up(connection, session)
                except BaseException:
                    connection.terminate()
                    raise
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                if keeps_statements and sqlstate(error) in _OTHERS_STATEMENTS:
                    self._pooled = None
                    continue
                if isinstance(error, OSError):  # as it is: what a ConnectError was caused by says what to do
                    raise
                raise ConnectError(str(error)) from error
            if made.pooled != self._pooled:
                self._pooled = made.pooled
                if made.pooled:
                    log.info("pooler_in_between")
            if made.pooled != keeps_statements:
                return connection, made
            connection.terminate()

    def _is_over(self, error: Exception, generation: int) -> bool:
        """Throw away all connections up to a generation if an error of one of them says so; returns whether it does."""
        if isinstance(error, ConnectError) or not is_dead(error):
            return False
        if generation == self._generation:  # else they have gone already, and there may be new ones
            log.info("database_connection_ended", error=type(error).__name__, code=sqlstate(error))
            self._throw_away(
                [connection for connection, of in self._connections.items() if of.generation <= generation]
            )
        return True

    def _throw_away(self, connections: Sequence[asyncpg.Connection]) -> None:
        self._generation += 1
        for connection in connections:
            self._connections.pop(connection, None)
            connection.terminate()  # at once; what waits for an answer gets an error
        # New pools, instead of an order to each connection to look after itself, which takes its time.
        for engine in (self._writer, self._reader):
            engine.sync_engine.dispose(close=False)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Have somebody look after the server when the work within takes long."""
        work = object()
        timer = asyncio.get_running_loop().call_later(_LATE_AFTER, self._is_late, work)
        try:
            yield
        finally:
            timer.cancel()
            self._late.discard(work)

    def _is_late(self, work: object) -> None:
        self._late.add(work)
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._look_while_late())

    async def _look_while_late(self) -> None:
        unanswered = 0
        while self._late:
            known = dict(self._connections)
            answer = await self._look_at_server()
            unanswered = unanswered + 1 if isinstance(answer, Exception) else 0
            if 0 < unanswered < _LOOKS:
                await asyncio.sleep(_LOOK_EVERY)
                continue
            lost = [
                connection
                for connection, of in known.items()
                if connection in self._connections and not _may_live(of.session.started_at, answer)
            ]
            if lost:
                log.warning("database_lost", connections=len(lost), reason=str(answer)[:300])
                self._throw_away(lost)
            await asyncio.sleep(_LOOK_EVERY)

    async def _look_at_server(self) -> datetime | Exception:
        """When the server that is there now was started, or why that is not known."""
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                connection = await self._to_read.connect()
                try:
                    return await started_at(connection)
                finally:
                    connection.terminate()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return error


def _may_live(started_at: datetime, answer: datetime | Exception) -> bool:
    """Whether the server that was started at that time may still be there, by what a look at it gave."""
    if isinstance(answer, datetime):
        return answer == started_at
    # A server that has no room for one more, or that does not like our password any more, is there to say so.
    return bool(sqlstate(answer)) and not is_about_the_end(sqlstate(answer))


def _engine(
    open_connection: Callable[[], Awaitable[tuple[asyncpg.Connection, Session]]],
    *,
    local: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncEngine:
    """An engine whose connections keep nothing for longer than a transaction where there is a pooler.

    Args:
        open_connection: opens one.
        local: settings that each transaction makes then.
        options: of the engine.
    """
    if "poolclass" not in options:
        options["pool_recycle"] = 1800
    engine = create_async_engine("postgresql+asyncpg://", **options)

    @event.listens_for(engine.sync_engine, "do_connect")
    def _connect(
        dialect: Any, record: ConnectionPoolEntry | None, _: Any, parameters: dict[str, Any]
    ) -> DBAPIConnection:
        connection, made = await_only(open_connection())
        if record is not None:
            record.info[_POOLED] = made.pooled

        async def opened() -> asyncpg.Connection:
            return connection

        if made.pooled:
            parameters["prepared_statement_cache_size"] = 0
        adapted: DBAPIConnection = dialect.connect(async_creator_fn=opened, **parameters)
        return adapted

    if local:
        statement, values = local_settings(local)

        @event.listens_for(engine.sync_engine, "begin")
        def _begin(connection: Connection) -> None:
            if connection.info[_POOLED]:
                connection.exec_driver_sql(statement, values)

    return engine
