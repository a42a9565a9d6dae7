"""Notifications of a channel (LISTEN). PostgreSQL keeps none of them for those who are not connected."""

import asyncio
import collections
import hashlib
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from attune_kit.postgres.url import PostgresUrl
from attune_postgres.connection import connect, disconnect, told
from attune_postgres.parameters import ChannelSubscription
from attune_postgres.payload import Notification
from attune_sensor import Message, SourceError

#: Seconds that a read waits; after each in which nothing came the server is asked whether it is still there.
_BLOCK: Final = 2.0
_BATCH: Final = 500
#: Notifications that may wait here. One has at most 8,000 bytes.
MOST_WAITING: Final = 1000

Waiting = collections.deque[Message]


def lock_of(sensor: str, channel: str) -> int:
    """The advisory lock of the replica that reports what a channel says: a number of 64 bits.

    Args:
        sensor: the Sensor, as namespace/name.
        channel: the channel.
    """
    digest = hashlib.sha256(f"attune\0{sensor}\0{channel}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


class Channel:
    """A :class:`attune_sensor.Source`. One replica reports what is said; the others wait until it is gone.

    Args:
        url: where it is, with secrets.
        subscription: what is listened to.
        where: the servers, for messages.
        name: what the server shows of the connection.
        lock: see :func:`lock_of`.
        waiting: what was heard and not read; it outlives the connection.
        on_loss: called with a sentence that says what was lost.
        gap: whether a connection was lost before, so that notifications may have been sent that nobody heard.
    """

    def __init__(
        self,
        url: PostgresUrl,
        subscription: ChannelSubscription,
        *,
        where: str,
        name: str,
        lock: int,
        waiting: Waiting,
        on_loss: Callable[[str, int], None],
        gap: bool,
    ) -> None:
        self._url, self._where, self._name = url, where, name
        self._wanted = subscription
        self._lock = lock
        self._waiting = waiting
        self._on_loss = on_loss
        self._gap = gap
        self._heard = asyncio.Event()
        self._reports = False
        self._connection: asyncpg.Connection | None = None

    async def open(self) -> None:
        """Connect and listen.

        Raises:
            SourceError: that cannot be.
        """
        self._connection = connection = await connect(self._url, name=self._name, where=self._where)
        connection.add_termination_listener(self._ended)
        with told(self._where):
            await connection.add_listener(self._wanted.channel, self._hear)
            await self._take_turn(connection)
        if self._gap:
            self._on_loss("what was sent while the connection was lost did not arrive: PostgreSQL does not keep it", 0)

    async def read(self) -> Sequence[Message]:
        """What was heard.

        Raises:
            SourceError: the connection was lost.
        """
        connection = self._open
        if not self._waiting:
            self._heard.clear()
            try:
                async with asyncio.timeout(_BLOCK):
                    await self._heard.wait()
            except TimeoutError:
                with told(self._where):
                    await self._take_turn(connection)
        if not self._waiting and connection.is_closed():
            raise SourceError(f"{self._where} has ended the connection")
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Nothing: PostgreSQL keeps no notification."""

    async def hold(self, messages: Sequence[Message]) -> None:
        """Nothing. Also without a connection, what was heard is reported."""

    async def close(self) -> None:
        """Disconnect."""
        await disconnect(self._connection)

    @property
    def _open(self) -> asyncpg.Connection:
        assert self._connection is not None  # noqa: S101 - it is open
        return self._connection

    async def _take_turn(self, connection: asyncpg.Connection) -> None:
        """See that the server is there, and whether this replica is the one that reports."""
        if self._reports:
            await connection.execute("SELECT")
        else:
            self._reports = await connection.fetchval("SELECT pg_catalog.pg_try_advisory_lock($1::int8)", self._lock)

    def _hear(self, connection: Any, pid: int, channel: str, text: str) -> None:
        if not self._reports:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._on_loss(f"more than {MOST_WAITING} notifications waited for the API", 1)
            return
        heard_at = datetime.now(UTC)
        self._waiting.append(
            Message(
                partition="",
                occurrence=f"{self._wanted.server}/{self._wanted.channel}/{uuid.uuid4()}",
                content=Notification(text=text, heard_at=heard_at),
                size=len(text.encode()),
                occurred_at=heard_at,
            )
        )
        self._heard.set()

    def _ended(self, connection: Any) -> None:
        self._heard.set()
