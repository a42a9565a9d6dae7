"""When each Rule's latest stored event occurred, from the stream of accepted events (``ATTUNE_EVENTS``, the API's).

The operator is not on the data path, and a column in ``kubectl get rules`` must not put it there. It checks every
second, reads headers only, and while many events come it reads the last one of each rule instead of all of them, and less
often. The stream need not exist.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import nats.js.errors

from attune_contract import subjects
from attune_kit.nats.connection import NatsConnection
from attune_kit.nats.last_per_subject import StreamMessage, read_snapshot
from attune_operator.rules.records import parse_time
from attune_operator.runtime.conditions import kubernetes_time
from attune_operator.streams.definitions import StreamIdentity, identity

#: More new events than this are not read one by one.
_MAX_NEW: Final = 2_000
_TIMEOUT: Final = 30.0
#: Messages that are read in a second, on average, and the longest pause (seconds) that follows many of them.
_READ_RATE: Final = 100.0
_LONGEST_PAUSE: Final = 10.0


def pause_after(read: int, *, shortest: float) -> float:
    """Seconds until the next check for new events, after ``read`` messages: often only while there is little to read."""
    return min(max(shortest, read / _READ_RATE), max(shortest, _LONGEST_PAUSE))


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The latest event of a rule, and when it occurred, as Kubernetes writes times."""

    rule_uid: str
    time: str


def parse_event(message: StreamMessage) -> LastEvent | None:
    """Read an event's subject and headers; None if it is not an event."""
    tokens = message.subject.split(".")
    time = (message.headers or {}).get("ce-time", "")
    if len(tokens) != 4 or not time:
        return None
    try:
        return LastEvent(tokens[3], kubernetes_time(parse_time(time)))
    except ValueError:
        return None


class LastEventReader:
    """Looks for new events on each :meth:`poll`. It lives as long as one connection."""

    def __init__(self, *, connection: NatsConnection, on_event: Callable[[LastEvent], None]) -> None:
        self._connection = connection
        self._on_event = on_event
        self._seen: StreamIdentity | None = None

    async def poll(self) -> int:
        """Read what is new since the last time; returns how many messages that were.

        Raises:
            ReaderLostError: it did not come whole.
            nats.errors.Error: the server refused or did not answer.
        """
        try:
            info = await self._connection.jetstream.stream_info(subjects.EVENTS_STREAM)
        except nats.js.errors.NotFoundError:
            self._seen = None
            return 0
        now, before = identity(info), self._seen
        self._seen = now
        if now.messages == 0 or (
            before is not None and before.created == now.created and before.last_sequence == now.last_sequence
        ):
            return 0
        continues = before is not None and before.created == now.created
        new = now.last_sequence - before.last_sequence if before is not None else 0
        latest: dict[str, LastEvent] = {}

        def keep(message: StreamMessage) -> None:
            event = parse_event(message)
            if event is not None:
                latest[event.rule_uid] = event

        read = await read_snapshot(
            connection=self._connection,
            stream=subjects.EVENTS_STREAM,
            subject=subjects.ALL_EVENTS,
            on_message=keep,
            timeout=_TIMEOUT,
            start_sequence=before.last_sequence + 1
            if before is not None and continues and 0 < new <= _MAX_NEW
            else None,
            headers_only=True,
        )
        for event in latest.values():
            self._on_event(event)
        return read
