"""Events that left ``ATTUNE_EVENTS`` before they were handled: they are taken from the API instead.

The stream is a window on the API's database: the oldest go first. The consumer's metadata says up to which event everything is
handled, as a sequence of the stream and as an event's ``seq``. When the stream begins behind it, what lies between is read from
the API, in order, and handled like any event. A run that the API knows to be over is not made again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import nats.errors
import structlog
from nats.js.api import ConsumerConfig
from nats.js.errors import NotFoundError

from attune_actions.api import Api, ApiError
from attune_actions.metrics import Metrics
from attune_contract.actions import EVENTS_CONSUMER
from attune_contract.subjects import EVENTS_STREAM
from attune_kit.nats.connection import NatsConnection
from attune_kit.nats.connector import NatsConnector
from attune_kit.outage import Outage

_log = structlog.stdlib.get_logger(__name__)

#: Keys of the consumer's metadata.
POSITION: Final = "attune.dev/handled"
CATCHING_UP: Final = "attune.dev/catching-up"
#: Seconds between two looks, and for which another replica's word counts that it is at it.
_LOOK: Final = 5.0
_CLAIM: Final = 60.0
_TIMEOUT: Final = 5.0
#: Events that are handled at once.
_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True)
class Position:
    """Up to where everything is handled: a sequence of the stream, and the ``seq`` of the event there."""

    sequence: int
    seq: int

    @classmethod
    def parse(cls, text: str | None) -> "Position | None":
        """Read what :meth:`shown` wrote; None when it is something else."""
        try:
            sequence, seq = (int(part) for part in (text or "").split("/"))
        except ValueError:
            return None
        return cls(sequence, seq)

    def shown(self) -> str:
        """As it stands in the metadata."""
        return f"{self.sequence}/{self.seq}"


def gap(position: Position | None, *, first_sequence: int, first_seq: int) -> range | None:
    """The ``seq`` of events that may be unhandled and are no longer in the stream; None when there are none. Pure.

    Args:
        position: up to where everything is handled; None: it is not known, because there was no runner before.
        first_sequence: where the stream begins.
        first_seq: the event there.
    """
    if position is None or first_sequence <= position.sequence + 1 or first_seq <= position.seq + 1:
        return None
    return range(position.seq + 1, first_seq)


class _Event(msgspec.Struct):
    seq: int


_SEQS: Final = msgspec.json.Decoder(_Event)
#: Handles an event that is given as JSON.
Handle = Callable[[bytes], Awaitable[None]]


class CatchingUp:
    """Watches for gaps, and fills them.

    Args:
        connector: the connection to NATS.
        api: where events are read.
        handle: handles one event; returns when its runs are over, or durably queued.
        metrics: what is counted.
        instance: who this replica is.
    """

    def __init__(self, *, connector: NatsConnector, api: Api, handle: Handle, metrics: Metrics, instance: str) -> None:
        self._connector = connector
        self._api = api
        self._handle = handle
        self._metrics = metrics
        self._instance = instance
        self._outage = Outage(log=_log, name="catching_up")

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            connection = await self._connector.wait_connected()
            try:
                await self._look(connection)
            except NotFoundError:
                pass  # neither stream nor consumer are there yet
            except (ApiError, nats.errors.Error, OSError, TimeoutError) as error:
                self._outage.failed(type(error).__name__, str(error) or type(error).__name__)
            else:
                self._outage.recovered()
            await asyncio.sleep(_LOOK)

    async def _look(self, connection: NatsConnection) -> None:
        jetstream = connection.jetstream
        consumer = await jetstream.consumer_info(EVENTS_STREAM, EVENTS_CONSUMER)
        stream = (await jetstream.stream_info(EVENTS_STREAM)).state
        metadata = dict(consumer.config.metadata or {})
        position = Position.parse(metadata.get(POSITION))
        if stream.messages:
            first = await _seq_at(connection, stream.first_seq)
            missing = None if first is None else gap(position, first_sequence=stream.first_seq, first_seq=first)
            if missing and first is not None:
                if self._claimed(metadata.get(CATCHING_UP)):
                    return
                await self._fill(jetstream, consumer.config, missing)
                position = Position(stream.first_seq - 1, first - 1)
                await self._note(jetstream, consumer.config, position)
                return
        # An event that is handed out is still in the stream: so what the floor says is what was handled.
        floor = consumer.ack_floor.stream_seq if consumer.ack_floor is not None else 0
        if floor and (position is None or floor > position.sequence):
            seq = await _seq_at(connection, floor)
            if seq is not None:
                await self._note(jetstream, consumer.config, Position(floor, seq))

    def _claimed(self, text: str | None) -> bool:
        """Whether another replica fills the gap now."""
        who, _, when = (text or "").rpartition(" ")
        try:
            return who != self._instance and time.time() - float(when) < _CLAIM
        except ValueError:
            return False

    async def _fill(self, jetstream: Any, config: ConsumerConfig, missing: range) -> None:
        _log.warning(
            "events_left_the_stream",
            first_seq=missing.start,
            before_seq=missing.stop,
            then="they are read from the API",
        )
        done, after = 0, missing.start - 1
        claimed = 0.0
        while after < missing.stop - 1:
            if time.time() - claimed > _CLAIM / 4:
                claimed = time.time()
                metadata = {**(config.metadata or {}), CATCHING_UP: f"{self._instance} {claimed:.0f}"}
                config = config.evolve(metadata=metadata)
                await jetstream.add_consumer(EVENTS_STREAM, config)
            events = await self._api.events(after_seq=after)
            wanted = [bytes(each) for each in events if _SEQS.decode(each).seq < missing.stop]
            for start in range(0, len(wanted), _AT_ONCE):
                part = wanted[start : start + _AT_ONCE]
                await asyncio.gather(*map(self._handle, part))
                done += len(part)
                self._metrics.caught_up.inc(len(part))
            if not events:
                break
            after = _SEQS.decode(events[-1]).seq
        _log.info("caught_up", events=done)

    @staticmethod
    async def _note(jetstream: Any, config: ConsumerConfig, position: Position) -> None:
        kept = {key: value for key, value in (config.metadata or {}).items() if key != CATCHING_UP}
        await jetstream.add_consumer(EVENTS_STREAM, config.evolve(metadata={**kept, POSITION: position.shown()}))


async def _seq_at(connection: NatsConnection, sequence: int) -> int | None:
    """The ``seq`` of the event at a place of the stream; None when it is gone."""
    body = msgspec.json.encode({"seq": sequence})
    answer = await connection.client.request(f"$JS.API.DIRECT.GET.{EVENTS_STREAM}", body, timeout=_TIMEOUT)
    if (answer.headers or {}).get("Status") is not None:
        return None
    try:
        return _SEQS.decode(answer.data).seq
    except msgspec.MsgspecError:
        return None
