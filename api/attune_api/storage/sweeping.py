"""Deleting what need not be kept: again and again, in small chunks, so that others who want the database need not wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from attune_api.storage.database import Database, Work
from attune_api.storage.faults import OUTAGES
from attune_api.storage.leases import Held, Leases
from attune_kit.backoff import Backoff, spread

log = structlog.get_logger(__name__)

_RETRY: Final = Backoff(initial=0.2, maximum=60.0)
#: How much longer it rests than it works.
_REST: Final = 2.0
#: Seconds of the lease: sweeping may wait for another replica longer than publishing.
_LEASE: Final = 30.0

#: The rules after a uid that have too much, each with the place up to which it is too much, and the uid to go on from.
Crowded = tuple[Sequence[tuple[str, int]], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What one transaction deleted; ``place`` is where the next one begins, None at the end."""

    deleted: int
    place: int | None


async def _rest_after(started: float) -> None:
    """Leave the database to others for a while, longer than was worked since ``started`` (``time.monotonic``)."""
    await asyncio.sleep(_REST * (time.monotonic() - started))


async def sweep_for_ever(
    leases: Leases, *, lease: str, interval: float, sweep: Callable[[Held], Awaitable[Any]], waits: str
) -> None:
    """Sweep until cancelled; wait out whatever the database does. On PostgreSQL one replica does it.

    Args:
        leases: of the database that is swept.
        lease: name of the one that the sweeping replica holds.
        interval: seconds between sweeps.
        sweep: one sweep.
        waits: the log event for when the database does not go along.
    """
    retries = _RETRY.start()
    while True:
        try:
            async with leases.hold(lease, at_least=_LEASE) as held:
                while True:
                    held.check()
                    await sweep(held)
                    retries.reset()
                    await asyncio.sleep(spread(interval))
        except OUTAGES as error:
            if retries.failures == 0:
                log.warning(waits, error=type(error).__name__)
            await asyncio.sleep(retries.next_delay())


async def drop_old(
    database: Database, held: Held, *, delete: Callable[[int], Work[Chunk]], deleted: Callable[[int], None]
) -> int:
    """Delete what is too old; returns how much that was.

    Args:
        database: what is swept.
        held: the lease; when it is lost, another replica may be doing the same.
        delete: deletes what is behind a place, a chunk at most.
        deleted: told of each deletion, for the metrics.
    """
    total = 0
    place: int | None = 0
    while place is not None:
        held.check()
        started = time.monotonic()
        chunk = await database.write(delete(place))
        total += chunk.deleted
        deleted(chunk.deleted)
        place = chunk.place
        await _rest_after(started)
    return total


async def thin_out(
    database: Database,
    held: Held,
    *,
    crowded: Callable[[str], Work[Crowded]],
    delete: Callable[[str, int], Work[int]],
    chunk: int,
    deleted: Callable[[int], None],
) -> int:
    """Delete what each rule has too much; returns how much that was.

    Args:
        database: what is swept.
        held: the lease; when it is lost, another replica may be doing the same.
        crowded: finds rules that have too much, behind a uid.
        delete: deletes of a rule up to a place, a chunk at most; returns how much.
        chunk: how much it deletes at once.
        deleted: told of each deletion, for the metrics.
    """
    total = 0
    last: str | None = ""
    while last is not None:
        started = time.monotonic()
        rules, last = await database.read(crowded(last))
        await _rest_after(started)
        for uid, cut in rules:
            number = chunk
            while number == chunk:
                held.check()
                started = time.monotonic()
                number = await database.write(delete(uid, cut))
                total += number
                deleted(number)
                await _rest_after(started)
    return total
