"""Work that a durable pull consumer hands out: taken, carried out, acknowledged or handed back.

Replicas share one consumer. Each asks for as much as it can hold. What it holds for longer than some seconds it says so about;
what a killed replica held is handed to another after :data:`ACK_WAIT`.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from attune_kit.nats.client import unsubscribe
from attune_kit.nats.connection import NatsConnection
from attune_kit.nats.connector import NatsConnector

_log = structlog.stdlib.get_logger(__name__)

#: Seconds after which what a silent replica holds is given to another.
ACK_WAIT: Final = 10.0
#: Seconds between two words about what is still held.
_STILL: Final = 3.0
#: Seconds that a request for work lasts, and between signs of life of the server meanwhile.
_EXPIRES: Final = 30.0
_HEARTBEAT: Final = 5.0
#: Seconds of silence after which the consumer counts as lost.
_SILENCE: Final = 3 * _HEARTBEAT
#: Seconds before the end of :data:`ACK_WAIT` at which what must not be begun twice is not begun any more.
_MARGIN: Final = 2.0


class WorkLostError(Exception):
    """The consumer does not answer any more; begin again."""


class Work:
    """One message in hand. Exactly one of :meth:`ack` and :meth:`hand_back` ends it.

    Attributes:
        subject, data: of the message.
        sequence: its place in the stream.
        stored_ns: when it was stored: nanoseconds since 1970.
        delivered: how often it was handed out, this time included.
    """

    __slots__ = ("_connector", "_kept", "_reply", "data", "delivered", "sequence", "since", "stored_ns", "subject")

    def __init__(self, message: Msg, connector: NatsConnector, *, since: float) -> None:
        self.subject: str = message.subject
        self.data: bytes = message.data
        self.since = self._kept = since
        self._reply = message.reply
        self._connector = connector
        tokens = message.reply.split(".")
        first = 4 if len(tokens) == 9 else 6
        self.delivered, self.sequence = int(tokens[first]), int(tokens[first + 1])
        self.stored_ns = int(tokens[first + 3])

    @property
    def begin_by(self) -> float:
        """Until when it is certain that it was not given to another replica, in monotonic seconds."""
        return self._kept + ACK_WAIT - _MARGIN

    async def ack(self) -> None:
        """It is done."""
        await self._say(b"+ACK")

    async def hand_back(self, delay: float = 0.0) -> None:
        """Have it handed out again, to any replica.

        Args:
            delay: not before so many seconds.
        """
        await self._say(b"-NAK" if delay <= 0 else b'-NAK {"delay": %d}' % int(delay * 1e9))

    async def still(self) -> None:
        """Keep it for longer. A replica that was frozen says so too late: another one may have it by then."""
        now = time.monotonic()
        await self._say(b"+WPI")
        if self._connector.current is not None and now < self.begin_by:
            self._kept = now

    async def _say(self, word: bytes) -> None:
        connection = self._connector.current
        if connection is not None:  # otherwise it is handed out again, which loses nothing
            with contextlib.suppress(nats.errors.Error, OSError):
                await connection.client.publish(self._reply, word)


Handler = Callable[[Work], Awaitable[None]]


class Workers:
    """Takes work and has it carried out, for as long as a connection lasts, and again with the next one.

    Args:
        connector: the connection to NATS.
        stream: whose consumer.
        consumer: its durable name.
        subject: which of the stream's subjects.
        handler: carries one message out and ends it. What it raises is logged, and the message is handed out again.
        at_once: messages in hand at most.
        most_pending: messages that all replicas together may have in hand, those that wait for their time included.
        start_sequence: where a new consumer begins; the stream's first message unless given.
        idle: how many of the messages in hand only wait. As many more may be in hand, up to twice ``at_once``.
    """

    def __init__(
        self,
        *,
        connector: NatsConnector,
        stream: str,
        consumer: str,
        subject: str,
        handler: Handler,
        at_once: int,
        most_pending: int,
        start_sequence: int | None = None,
        idle: Callable[[], int] = lambda: 0,
    ) -> None:
        self._idle = idle
        self._connector = connector
        self._stream = stream
        self._consumer = consumer
        self._handler = handler
        self._at_once = at_once
        self._config = ConsumerConfig(
            durable_name=consumer,
            filter_subject=subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=most_pending,
            max_waiting=512,
            deliver_policy=DeliverPolicy.ALL if start_sequence is None else DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=start_sequence,
        )
        self._tasks: dict[asyncio.Task[None], Work] = {}
        self._asked = 0
        self._wake = asyncio.Event()
        self._heard = 0.0
        self._lost = ""
        self._stopping = False
        self.taking = False
        """Whether there is a consumer, and work would be taken."""

    @property
    def in_hand(self) -> int:
        """Messages that are being carried out."""
        return len(self._tasks)

    async def run(self) -> None:
        """Take work until cancelled or stopped.

        Raises:
            WorkLostError: the consumer cannot be created, or was lost.
            nats.errors.Error: the connection was lost.
        """
        connection = await self._connector.wait_connected()
        await self._ensure_consumer(connection.jetstream)
        inbox = connection.client.new_inbox()
        subscription = await connection.client.subscribe(inbox, cb=self._receive, pending_msgs_limit=0)
        self._asked, self._lost = 0, ""
        self._heard = asyncio.get_running_loop().time()
        self.taking = True
        try:
            while not self._stopping:
                await self._ask(connection, inbox)
                await self._pause(connection)
        finally:
            self.taking = False
            await unsubscribe(subscription)

    async def _ensure_consumer(self, jetstream: Any) -> None:
        """Create the consumer, or correct what is ours to say. Its metadata stays (:mod:`attune_actions.catching_up`)."""
        try:
            found = (await jetstream.consumer_info(self._stream, self._consumer)).config
        except NotFoundError:
            await jetstream.add_consumer(self._stream, self._config)
            return
        wanted = self._config
        if (found.ack_wait, found.max_ack_pending) != (wanted.ack_wait, wanted.max_ack_pending):
            changed = found.evolve(ack_wait=wanted.ack_wait, max_ack_pending=wanted.max_ack_pending)
            await jetstream.add_consumer(self._stream, changed)

    async def _ask(self, connection: NatsConnection, inbox: str) -> None:
        self._wake.clear()
        busy = len(self._tasks) - min(self._idle(), self._at_once, len(self._tasks))
        free = self._at_once - busy - self._asked
        if free < max(1, self._at_once // 4) and not (self._asked == 0 and free > 0):
            return
        self._asked += free
        request = {"batch": free, "expires": int(_EXPIRES * 1e9), "idle_heartbeat": int(_HEARTBEAT * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        await connection.client.publish(subject, msgspec.json.encode(request), reply=inbox)

    async def _pause(self, connection: NatsConnection) -> None:
        """Wait until there may be something to ask for, and keep what is in hand."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STILL):
                await self._wake.wait()
                return
        now = loop.time()
        if connection.closed:
            raise WorkLostError(connection.reason)
        if self._lost:
            raise WorkLostError(self._lost)
        if self._asked and now - self._heard > _SILENCE:
            raise WorkLostError(f"the consumer {self._consumer} of {self._stream} is silent")
        for work in list(self._tasks.values()):
            if now - work.since > _STILL:
                await work.still()

    async def _receive(self, message: Msg) -> None:
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        status = (message.headers or {}).get("Status")
        if status is not None:
            self._status(status, message.headers or {})
            return
        self._asked -= 1
        work = Work(message, self._connector, since=self._heard)
        if self._stopping:
            await work.hand_back()
            return
        task = asyncio.create_task(self._carry(work))
        self._tasks[task] = work
        task.add_done_callback(self._done)

    def _status(self, status: str, headers: dict[str, str]) -> None:
        if status == "100":
            return
        text = headers.get("Description", "")
        self._asked = max(0, self._asked - int(headers.get("Nats-Pending-Messages", self._asked)))
        if status == "409" and "deleted" in text.lower():
            self._lost = f"the consumer {self._consumer} was deleted"
        self._wake.set()

    async def _carry(self, work: Work) -> None:
        try:
            await self._handler(work)
        except asyncio.CancelledError:
            await work.hand_back()
            raise
        except Exception:
            _log.exception("work_failed", stream=self._stream, sequence=work.sequence, delivered=work.delivered)
            await work.hand_back(min(60.0, 0.5 * 2 ** min(work.delivered, 8)))

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            task.exception()
        self._wake.set()

    def look(self) -> None:
        """Look whether there is something to ask for: ``idle`` says something else."""
        self._wake.set()

    async def stop(self, *, grace: float) -> None:
        """Take nothing more; finish what is in hand, and hand back what is not finished after ``grace`` seconds."""
        self._stopping = True
        self._wake.set()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=grace)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
