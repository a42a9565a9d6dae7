"""Rows of a table that are taken, reported, and then deleted or marked: an outbox.

Rows are locked in a transaction that is open until their events are stored. Nobody else gets them meanwhile, and they are
free at once when this process or its connection ends.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from attune_kit.postgres.url import PostgresUrl
from attune_postgres.connection import connect, disconnect, told
from attune_postgres.parameters import TableSubscription
from attune_postgres.payload import Row, time_of
from attune_postgres.statements import COLUMNS, Column, Statements, problem_of, statements_of
from attune_sensor import Message, SourceError

#: Seconds between two looks at a table that had nothing, and after which reading returns although nothing came.
_LOOK: Final = 0.5
_BLOCK: Final = 2.0
_BATCH_BYTES: Final = 4 * 1024 * 1024
#: Bytes of a row as JSON above which it is not sent (the SDK's limit).
_LARGEST: Final = 716_800
_FIRST: Final = 32
_MOST: Final = 500
#: Seconds after which a transaction is ended and rows are locked again: as long as it is open, the server cannot clean up what
#: was deleted since it began.
_RENEW: Final = 60.0
#: The server gives rows free when nothing was heard for a minute of a sensor that has them (its node may be gone). Bytes are
#: written as :func:`attune_postgres.payload.body_of` reads them.
_BEGIN: Final = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL bytea_output = 'hex'"


def next_count(count: int, sizes: Sequence[int]) -> int:
    """How many rows to read next: at most twice as many as before, and about 4 MiB, by the sizes seen last.

    Args:
        count: how many were asked for.
        sizes: bytes of those that came.
    """
    if not sizes:
        return count
    average = max(1, sum(sizes) // len(sizes))
    return max(1, min(2 * count, _MOST, _BATCH_BYTES // average))


class OutboxTable:
    """A :class:`attune_sensor.Source`.

    Args:
        url: where it is, with secrets.
        subscription: what is read.
        where: the servers, for messages.
        name: what the server shows of the connection.
    """

    def __init__(self, url: PostgresUrl, subscription: TableSubscription, *, where: str, name: str) -> None:
        self._url, self._where, self._name = url, where, name
        self._wanted = subscription
        self._table = f"{subscription.schema}.{subscription.table}"
        self._count = _FIRST
        self._types: dict[str, str] = {}
        self._made: tuple[asyncpg.Connection, Statements] | None = None
        #: Ids of rows that are locked, in order, and since when their transaction is open.
        self._locked: dict[str, None] = {}
        self._begun: float | None = None

    async def open(self) -> None:
        """Connect, and see that rows can be taken.

        Raises:
            SourceError: they cannot.
        """
        connection = await connect(self._url, name=self._name, where=self._where)
        self._made = (connection, Statements(claim="", claim_again="", finish="", rehearse=()))  # so that it is closed
        with told(self._where):
            found = await connection.fetch(COLUMNS, self._wanted.schema, self._wanted.table)
            columns = {each["name"]: Column(type=each["type"], key=each["key"]) for each in found}
            if (problem := problem_of(self._wanted, columns)) is not None:
                raise SourceError(problem)
            self._types = {name: column.type for name, column in columns.items()}
            statements = statements_of(self._wanted, columns)
            for statement in statements.rehearse:
                await connection.execute(statement)
        self._made = (connection, statements)

    async def read(self) -> Sequence[Message]:
        """The next rows, locked.

        Raises:
            SourceError: they cannot be read.
        """
        ends = time.monotonic() + _BLOCK
        while True:
            with told(self._where):
                rows = await self._claim()
            if rows or time.monotonic() >= ends:
                break
            await asyncio.sleep(_LOOK)
        messages = [self._message(identifier, size, line) for identifier, size, line in rows]
        self._count = next_count(self._count, [message.size for message in messages])
        return messages

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Delete or mark rows. Those that another one has locked meanwhile are left to it.

        Raises:
            SourceError: the server does not do so.
        """
        connection, statements = self._open
        mine = [str(message.handle) for message in messages if message.handle in self._locked]
        with told(self._where):
            done = await connection.execute(statements.finish, mine) if mine else "0"
            await connection.execute("COMMIT")
            self._begun = None
            for message in messages:
                self._locked.pop(str(message.handle), None)
            if int(done.split()[-1]) < len(mine):
                raise SourceError(
                    f"rows of {self._table} stay as they were: a trigger or a policy of the table prevents that they "
                    "are deleted or marked"
                )
            if self._locked:
                await self._claim_again()

    async def hold(self, messages: Sequence[Message]) -> None:
        """Keep the rows locked.

        Raises:
            SourceError: the connection was lost.
        """
        connection, _ = self._open
        with told(self._where):
            if self._begun is not None and time.monotonic() - self._begun > _RENEW:
                await connection.execute("ROLLBACK")
                await self._claim_again()
            else:
                await connection.execute("SELECT")

    async def close(self) -> None:
        """Disconnect; the rows that are locked are free then."""
        await disconnect(self._made[0] if self._made is not None else None)

    # -- the table ---------------------------------------------------------------------------------------------------------

    async def _claim(self) -> list[Any]:
        connection, statements = self._open
        await connection.execute(_BEGIN)
        rows: list[Any] = await connection.fetch(statements.claim, self._count, _LARGEST, _BATCH_BYTES)
        if rows:
            self._begun = time.monotonic()
            self._locked = {row[0]: None for row in rows}
        else:
            await connection.execute("ROLLBACK")
        return rows

    async def _claim_again(self) -> None:
        """Lock what was locked, in a new transaction. What another one took in between has the same events there."""
        connection, statements = self._open
        await connection.execute(_BEGIN)
        self._begun = time.monotonic()
        again = await connection.fetch(statements.claim_again, list(self._locked))
        self._locked = {row[0]: None for row in again}

    @property
    def _open(self) -> tuple[asyncpg.Connection, Statements]:
        assert self._made is not None  # noqa: S101 - it is open
        return self._made

    def _message(self, identifier: str, size: int, line: str | None) -> Message:
        data = None if line is None else line.encode()
        return Message(
            partition="",
            occurrence=f"{self._wanted.server}/{self._table}/{identifier}",
            content=Row(id=identifier, size=size, data=data, types=self._types),
            size=size,
            occurred_at=time_of(data, self._wanted.time),
            handle=identifier,
        )
