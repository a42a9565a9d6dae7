"""Where to go on publishing: what was published, but not noted, is found in the stream.

The replica that publishes notes it a little later, and may end, stand still or lose its connection before that. JetStream
knows repetitions for some time only, so the events behind the position are compared with the last messages of the stream.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec
import structlog
from sqlalchemy import Connection, func, select

from attune_api.events.query.service import Found
from attune_api.events.table import EVENTS
from attune_contract.events import Event

log = structlog.get_logger(__name__)

#: How many messages are compared, spread over all of them where there are more, and how many of those at once.
_COMPARED: Final = 1000
_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class Published:
    """A message of the stream: its ``Nats-Msg-Id``, and its body."""

    id: str
    body: bytes


class _Body(msgspec.Struct):
    seq: int = 0


async def already_there(
    message: Callable[[int], Awaitable[Published | None]],
    read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
    next_events: Callable[..., Found],
    *,
    position: int,
    newest: int,
    name: Callable[[Event], str],
) -> int:
    """The ``seq`` up to which events are in the stream already; the position when that cannot be told.

    Only if the messages after the position are the events behind it, in their order and without one more or less: after a
    copy of the database was restored, the stream has messages whose ``seq`` other events have now.

    Args:
        message: reads one of the stream by its number; None when it is not there.
        read: reads in the database.
        next_events: the events behind a ``seq``.
        position: up to where it is noted that events were published.
        newest: number of the stream's last message.
        name: an event's ``Nats-Msg-Id``.
    """
    last = await message(newest) if newest else None
    end = _seq(last) if last is not None else 0
    if end <= position:
        return position
    count = await read(partial(_count, beyond=position, up_to=end))
    step = count // _COMPARED + 1
    place, at = newest - count + 1, position
    while at < end:
        found: Found = await read(partial(next_events, beyond=at))
        events = [event for event in found.events if event.seq <= end]
        if not events:
            return position
        compared = [
            (place + n, name(event)) for n, event in enumerate(events) if (place + n) % step == 0 or event.seq == end
        ]
        for start in range(0, len(compared), _AT_ONCE):
            part = compared[start : start + _AT_ONCE]
            there = await asyncio.gather(*(message(number) for number, _ in part))
            if [each and each.id for each in there] != [wanted for _, wanted in part]:
                log.warning("outbox_differs_from_stream", position=position, stream=end)
                return position
        place += len(events)
        at = events[-1].seq
    return end


def _seq(message: Published) -> int:
    try:
        return msgspec.json.decode(message.body, type=_Body).seq
    except msgspec.MsgspecError:
        return 0


def _count(connection: Connection, *, beyond: int, up_to: int) -> int:
    wanted = select(func.count()).where(EVENTS.c.seq > beyond, EVENTS.c.seq <= up_to)
    number: int = connection.execute(wanted).scalar_one()
    return number
