"""Following the last message of each subject of a stream, over restarts of anything.

Not nats-py's ordered consumer: after a stream was deleted and made again that goes on at the old sequence and silently
loses messages. Here any doubt (a reconnect, a missed heartbeat, a gap, time) leads to a new consumer with a new name,
which delivers the last message of every subject again.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

_HEARTBEAT: Final = 1.0
_SILENCE: Final = 3 * _HEARTBEAT
_INACTIVE: Final = 30.0
_LOOK: Final = 0.25


class Interrupted(nats.errors.Error):  # type: ignore[misc]
    """Something may have been missed; begin again. The text says why."""

    def __init__(self, why: str, *, due: bool = False) -> None:
        super().__init__(why)
        self.due = due  #: whether it was only time to read everything again


class Follower(Protocol):
    """Whoever follows a stream."""

    def begin(self) -> None:
        """All is delivered again from here on."""

    def take(self, message: Msg) -> None:
        """A message, in the stream's order. Must be quick: a hundred thousand may come in a second."""

    def complete(self) -> None:
        """Every subject's last message has been taken; what comes now is new."""

    async def settle(self) -> None:
        """Called again and again, soon after messages came and several times a second, for what takes longer."""


async def follow(
    client: Client,
    follower: Follower,
    *,
    stream: str,
    subjects: str,
    resync: float,
    generation: Callable[[], int],
) -> None:
    """Hand over the last message of every subject, then each new one, until there is reason to begin again.

    Args:
        client: a connection to NATS.
        follower: who is told.
        stream: the stream.
        subjects: filter.
        resync: seconds after which to begin again in any case.
        generation: a number that changes when the connection was made anew.

    Raises:
        Interrupted: begin again.
        nats.errors.Error: there is no such stream, no right to read it, or no connection.
    """
    reading = _Reading(client, follower)
    began = generation()
    loop = asyncio.get_running_loop()
    ends = loop.time() + resync
    try:
        await reading.open(stream=stream, subjects=subjects)
        while True:
            await reading.news(_LOOK)
            await follower.settle()
            if generation() != began:
                raise Interrupted("the connection was made anew")
            if reading.fault is not None:
                raise reading.fault
            if loop.time() - reading.heard > _SILENCE:
                raise Interrupted("no heartbeat")
            if loop.time() >= ends:
                raise Interrupted("due", due=True)
    finally:
        await reading.close()


class _Reading:
    """One consumer. Messages are taken as nats-py reads them from the socket, so that hardly any wait in memory."""

    def __init__(self, client: Client, follower: Follower) -> None:
        self._client = client
        self._follower = follower
        self._expected = 1
        self._complete = False
        self._news = asyncio.Event()
        self._unsubscribe: Callable[[], Awaitable[None]] | None = None
        self.heard = asyncio.get_running_loop().time()
        self.fault: Exception | None = None

    async def open(self, *, stream: str, subjects: str) -> None:
        inbox = self._client.new_inbox()
        self._follower.begin()
        subscription = await self._client.subscribe(inbox, cb=self._on_message)
        self._unsubscribe = subscription.unsubscribe
        made = await self._client.jetstream(timeout=5).add_consumer(
            stream,
            ConsumerConfig(
                name=f"api-{secrets.token_hex(6)}",
                deliver_subject=inbox,
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                filter_subject=subjects,
                ack_policy=AckPolicy.NONE,
                idle_heartbeat=_HEARTBEAT,
                flow_control=True,
                inactive_threshold=_INACTIVE,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        self.heard = asyncio.get_running_loop().time()
        if not made.num_pending and self._expected == 1:
            self._completed()

    async def close(self) -> None:
        self.fault = self.fault or Interrupted("closed")  # whatever still comes is passed over
        if self._unsubscribe is not None and self._client.is_connected:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._unsubscribe()

    async def news(self, seconds: float) -> None:
        """Return when something came, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    def _completed(self) -> None:
        if not self._complete:
            self._complete = True
            self._follower.complete()

    async def _on_message(self, message: Msg) -> None:
        if self.fault is not None:
            return
        self.heard = asyncio.get_running_loop().time()
        try:
            await self._read(message)
        except Exception as error:
            self.fault = error
        self._news.set()

    async def _read(self, message: Msg) -> None:
        headers = message.headers or {}
        status = headers.get("Status")
        if status == "100":  # heartbeat or flow control; the latter wants an answer
            await self._on_status(message, headers)
        elif status:
            raise Interrupted(f"status {status}")
        else:
            metadata = message.metadata
            if metadata.sequence.consumer != self._expected:
                raise Interrupted("a message was lost")
            self._expected += 1
            self._follower.take(message)
            if not metadata.num_pending:
                self._completed()

    async def _on_status(self, message: Msg, headers: dict[str, str]) -> None:
        if message.reply:
            await message.respond(b"")
            return
        if stalled := headers.get("Nats-Consumer-Stalled"):
            await self._client.publish(stalled)
            return
        last = headers.get("Nats-Last-Consumer")
        if last is None:
            return
        if int(last) >= self._expected:
            raise Interrupted("a message was lost")
        # Idle, so all is delivered, even if the last message that was to come was deleted meanwhile.
        self._completed()
