"""One group's view of one stream: what was read and never acknowledged first, then what is new."""

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from attune_redis.config import Server
from attune_redis.parameters import Subscription
from attune_redis.payload import occurred_at, size_of
from attune_sensor import Message, SourceError

#: The one consumer of the group. With a name for each pod, what a pod that is gone had read would wait for somebody to
#: claim it. What two replicas so read twice has the same event ids.
_CONSUMER: Final = "attune"
_CONNECTS: Final = 5.0
_ANSWERS: Final = 15.0
#: Milliseconds that a read waits for entries.
_BLOCK: Final = 2000
_BATCH_BYTES: Final = 4 * 1024 * 1024
_FIRST: Final = 32
_MOST: Final = 500
#: How often (seconds) to look for entries that another replica has read and left, and for how long (milliseconds) nobody
#: may have worked on them.
_REVIEW: Final = 30.0
_IDLE: Final = 60_000

Entry = tuple[bytes, dict[bytes, bytes] | None]


def next_count(count: int, sizes: Sequence[int]) -> int:
    """How many entries to read next: at most twice as many as before, and about 4 MiB, by the sizes seen last.

    Args:
        count: how many were asked for.
        sizes: bytes of those that came.
    """
    if not sizes:
        return count
    average = max(1, sum(sizes) // len(sizes))
    return max(1, min(2 * count, _MOST, _BATCH_BYTES // average))


class RedisStream:
    """A :class:`attune_sensor.Source`.

    Args:
        server: where it is.
        subscription: what is read.
        password: the password, if one is needed.
        ca_file: the file with the authority of the server's certificate.
        after: the id after which a new group begins; None: as the subscription says.
    """

    def __init__(
        self,
        server: Server,
        subscription: Subscription,
        *,
        password: str | None,
        ca_file: str | None,
        after: str | None,
    ) -> None:
        self._where = f"{server.host}:{server.port}"
        self._stream, self._group = subscription.stream, subscription.group
        self._server = server
        self._begin = after or ("$" if subscription.start == "new" else "0")
        self._count = _FIRST
        self._history: str | None = "0"
        self._reviewed = time.monotonic()
        #: The last entry that was read as new.
        self.last: str | None = after
        # No retries: an answer that is lost has entries that must be read again before what is new.
        self._redis: Any = Redis(
            host=server.host,
            port=server.port,
            db=server.database,
            username=server.username,
            password=password,
            ssl=server.tls,
            ssl_ca_certs=ca_file,
            socket_connect_timeout=_CONNECTS,
            socket_timeout=_ANSWERS,
            retry=Retry(NoBackoff(), 0),
            client_name="attune",
            single_connection_client=True,
        )

    async def open(self) -> None:
        """Connect, and make the group unless it is there.

        Raises:
            SourceError: it cannot be read.
        """
        try:
            await self._redis.xgroup_create(self._stream, self._group, id=self._begin, mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise self._error(error) from error
        except (RedisError, OSError) as error:
            raise self._error(error) from error

    async def read(self) -> Sequence[Message]:
        """The next entries.

        Raises:
            SourceError: they cannot be read.
        """
        return await self._next(block=_BLOCK)

    async def read_ahead(self) -> Sequence[Message]:
        """The next entries that are there.

        Raises:
            SourceError: they cannot be read.
        """
        return await self._next(block=None)

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Take entries off the group's list of what is pending.

        Raises:
            SourceError: the server does not do so.
        """
        try:
            await self._redis.xack(self._stream, self._group, *(message.handle for message in messages))
        except (RedisError, OSError) as error:
            raise self._error(error) from error

    async def hold(self, messages: Sequence[Message]) -> None:
        """Say that somebody works on these.

        Raises:
            SourceError: the server does not take it.
        """
        identifiers = [message.handle for message in messages]
        try:
            await self._redis.xclaim(
                self._stream, self._group, _CONSUMER, min_idle_time=0, message_ids=identifiers, justid=True
            )
        except (RedisError, OSError) as error:
            raise self._error(error) from error

    async def close(self) -> None:
        """Disconnect."""
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose()

    async def _next(self, *, block: int | None) -> list[Message]:
        try:
            entries = await self._read(block=block)
        except (RedisError, OSError) as error:
            raise self._error(error) from error
        messages = [self._message(identifier, fields) for identifier, fields in entries]
        self._count = next_count(self._count, [message.size for message in messages])
        return messages

    async def _read(self, *, block: int | None) -> list[Entry]:
        if self._history is not None:
            entries = await self._entries(self._history)
            if entries:
                self._history = entries[-1][0].decode()
                return entries
            self._history = None
        if time.monotonic() - self._reviewed > _REVIEW:
            self._reviewed = time.monotonic()
            if entries := await self._abandoned():
                return entries
        entries = await self._entries(">", block=block)
        if entries:
            self.last = entries[-1][0].decode()
        return entries

    async def _entries(self, after: str, *, block: int | None = None) -> list[Entry]:
        answer = await self._redis.xreadgroup(
            self._group, _CONSUMER, {self._stream: after}, count=self._count, block=block
        )
        return entries_of(answer)

    async def _abandoned(self) -> list[Entry]:
        """What was read by a replica that is gone."""
        pending = await self._redis.xpending_range(
            self._stream, self._group, min="-", max="+", count=self._count, consumername=_CONSUMER, idle=_IDLE
        )
        if not pending:
            return []
        identifiers = [each["message_id"] for each in pending]
        claimed = await self._redis.xclaim(
            self._stream, self._group, _CONSUMER, min_idle_time=_IDLE, message_ids=identifiers
        )
        return [(identifier, fields) for identifier, fields in claimed if identifier is not None]

    def _message(self, identifier: bytes, fields: dict[bytes, bytes] | None) -> Message:
        entry = identifier.decode()
        return Message(
            partition="",
            occurrence=f"{self._server.name}/{self._stream}/{entry}",
            content=(entry, fields),
            size=size_of(fields),
            occurred_at=occurred_at(entry),
            handle=identifier,
        )

    def _error(self, error: Exception) -> SourceError:
        text = str(error) or type(error).__name__
        if isinstance(error, AuthenticationError) or text.startswith("NOAUTH"):
            return SourceError(f"{self._where} does not accept the credentials: {text}")
        if text.startswith("WRONGTYPE"):
            return SourceError(f"the key {self._stream} of {self._where} holds no stream")
        if text.startswith("NOGROUP"):
            return SourceError(f"the stream or the group {self._group} was deleted at {self._where}")
        return SourceError(f"{self._where}: {text}")


def entries_of(answer: Any) -> list[Entry]:
    """The entries in the answer to XREADGROUP for one stream; an entry that was trimmed has no fields."""
    if not answer:
        return []
    [(_, entries)] = answer.items() if isinstance(answer, dict) else answer
    if entries and isinstance(entries[0], list):  # RESP3 groups them once more
        entries = [entry for group in entries for entry in group]
    return [(identifier, fields or None) for identifier, fields in entries]
