"""How long events are kept: by age, and by number for each rule; deleted in small chunks, so that nobody waits for it.

Never deleted are what the outbox has not passed on yet, and the newest event of each rule: a sensor that was down goes on
from there (see :mod:`attune_api.events.last_events`), and would report anew what it had reported before.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import Connection, delete, exists, func, select

from attune_api.events.blocks import forget_below
from attune_api.events.store import EVENTS
from attune_api.metrics import Metrics
from attune_api.storage.database import OUTAGES, Database, StillHeld
from attune_api.storage.tables import METADATA
from attune_kit.backoff import Backoff

log = structlog.get_logger(__name__)

_RETRY: Final = Backoff(initial=0.2, maximum=60.0)

_OUTBOX: Final = METADATA.tables["outbox"]
#: Key of the lock that the deleting replica holds on PostgreSQL ("keep" in hexadecimal).
_LOCK: Final = 0x6B656570
#: Events deleted in one transaction, and rules looked at in one.
_CHUNK: Final = 500
_RULES: Final = 50
#: How much longer it rests than it works: others want the database, too.
_REST: Final = 2.0
_ABOVE_ALL: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What one transaction did; ``place`` is where the next one begins, None at the end."""

    deleted: int
    place: int | None


class Retention:
    """Deletes what need not be kept. :meth:`run` does it until cancelled.

    Args:
        database: where events are.
        metrics: what is counted.
        max_age: for how long events are kept after they were stored; None for ever.
        most_per_rule: how many of each rule are kept; None for all.
        outbox: the name under which the outbox keeps its position; None where events are not passed on.
        interval: seconds between sweeps.
        now: the time.
    """

    def __init__(
        self,
        *,
        database: Database,
        metrics: Metrics,
        max_age: timedelta | None,
        most_per_rule: int | None,
        outbox: str | None,
        interval: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._max_age = max_age
        self._most_per_rule = most_per_rule
        self._outbox = outbox
        self._interval = interval
        self._now = now

    async def run(self) -> None:
        """Sweep again and again until cancelled; wait out whatever the database does. On PostgreSQL one replica does it."""
        retries = _RETRY.start()
        while True:
            try:
                async with self._database.sole_holder(_LOCK) as still_ours:
                    while True:
                        await self.sweep(still_ours)
                        retries.reset()
                        await asyncio.sleep(self._interval * random.uniform(0.9, 1.1))  # noqa: S311 - jitter
            except OUTAGES as error:
                if retries.failures == 0:
                    log.warning("retention_waits", error=type(error).__name__)
                await asyncio.sleep(retries.next_delay())

    async def sweep(self, still_ours: StillHeld) -> int:
        """Delete all that need not be kept; returns how many events.

        Args:
            still_ours: raises when another replica may be doing the same.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: the database did not go along; the rest goes next time.
        """
        by_age = await self._by_age(still_ours) if self._max_age is not None else 0
        by_count = await self._by_count(still_ours, self._most_per_rule) if self._most_per_rule is not None else 0
        if by_age or by_count:
            oldest = await self._database.read(oldest_seq)
            if oldest is not None:
                await self._database.write(lambda connection: forget_below(connection, seq=oldest))
            log.info("events_deleted", by_age=by_age, by_count=by_count)
        self._metrics.retention_swept.set_to_current_time()
        return by_age + by_count

    async def _by_age(self, still_ours: StillHeld) -> int:
        assert self._max_age is not None  # noqa: S101 - asked by the caller
        before = self._now() - self._max_age
        total = 0
        place: int | None = 0
        while place is not None:
            await still_ours()
            beyond, started = place, time.monotonic()
            chunk = await self._database.write(
                lambda connection, beyond=beyond: delete_older(  # type: ignore[misc]
                    connection, beyond=beyond, before=before, up_to=passed_on(connection, outbox=self._outbox)
                )
            )
            total += chunk.deleted
            self._metrics.retention_deleted["age"].inc(chunk.deleted)
            place = chunk.place
            await asyncio.sleep(_REST * (time.monotonic() - started))
        return total

    async def _by_count(self, still_ours: StillHeld, most: int) -> int:
        total = 0
        last: str | None = ""
        while last is not None:
            after, started = last, time.monotonic()
            rules, last = await self._database.read(
                lambda connection, after=after: crowded(connection, after=after, most=most)  # type: ignore[misc]
            )
            await asyncio.sleep(_REST * (time.monotonic() - started))
            for uid, cut in rules:
                deleted = _CHUNK
                while deleted == _CHUNK:
                    await still_ours()
                    started = time.monotonic()
                    deleted = await self._database.write(
                        lambda connection, uid=uid, cut=cut: delete_of_rule(  # type: ignore[misc]
                            connection, uid=uid, up_to=min(cut, passed_on(connection, outbox=self._outbox))
                        )
                    )
                    total += deleted
                    self._metrics.retention_deleted["count"].inc(deleted)
                    await asyncio.sleep(_REST * (time.monotonic() - started))
        return total


def passed_on(connection: Connection, *, outbox: str | None) -> int:
    """The ``seq`` up to which events may go: where the outbox is, if there is one."""
    if outbox is None:
        return _ABOVE_ALL
    return connection.execute(select(_OUTBOX.c.position).where(_OUTBOX.c.name == outbox)).scalar_one_or_none() or 0


def oldest_seq(connection: Connection) -> int | None:
    """The lowest ``seq`` there is."""
    oldest: int | None = connection.execute(select(func.min(EVENTS.c.seq))).scalar_one()
    return oldest


def delete_older(connection: Connection, *, beyond: int, before: datetime, up_to: int) -> Chunk:
    """Delete the oldest events, a chunk at most, but for the newest of each rule.

    Args:
        connection: in a transaction.
        beyond: only those with a higher ``seq``.
        before: only those that were stored earlier.
        up_to: only those up to this ``seq``.
    """
    oldest = connection.execute(
        select(EVENTS.c.seq, EVENTS.c.received_at)
        .where(EVENTS.c.seq > beyond, EVENTS.c.seq <= up_to)
        .order_by(EVENTS.c.seq)
        .limit(_CHUNK)
    ).all()
    old = [seq for seq, received_at in oldest if received_at < before]
    if not old:
        return Chunk(deleted=0, place=None)
    newer = EVENTS.alias("newer")
    has_newer = exists().where(newer.c.rule_uid == EVENTS.c.rule_uid, newer.c.seq > EVENTS.c.seq)
    deleted = connection.execute(delete(EVENTS).where(EVENTS.c.seq.in_(old), has_newer)).rowcount
    return Chunk(deleted=deleted, place=old[-1] if len(old) == len(oldest) == _CHUNK else None)


def crowded(connection: Connection, *, after: str, most: int) -> tuple[Sequence[tuple[str, int]], str | None]:
    """Rules with more than ``most`` events.

    Args:
        connection: to read with.
        after: only rules behind this uid; a few of those are looked at.
        most: events that each may have.

    Returns:
        their uids, each with the ``seq`` up to which its events are too many; and the uid to go on behind, None at the end.
    """
    found: list[tuple[str, int]] = []
    uid: str | None = after
    for _ in range(_RULES):
        # From one rule to the next in the index (rule_uid, seq), not through all of its events.
        uid = connection.execute(select(func.min(EVENTS.c.rule_uid)).where(EVENTS.c.rule_uid > uid)).scalar_one()
        if uid is None:
            return found, None
        of_rule = (
            select(EVENTS.c.seq).where(EVENTS.c.rule_uid == uid).order_by(EVENTS.c.rule_uid.desc(), EVENTS.c.seq.desc())
        )
        cut = connection.execute(of_rule.offset(most).limit(1)).scalar_one_or_none()
        if cut is not None:
            found.append((uid, cut))
    return found, uid


def delete_of_rule(connection: Connection, *, uid: str, up_to: int) -> int:
    """Delete a rule's oldest events up to a ``seq``, a chunk at most; how many."""
    oldest = (
        select(EVENTS.c.seq).where(EVENTS.c.rule_uid == uid, EVENTS.c.seq <= up_to).order_by(EVENTS.c.seq).limit(_CHUNK)
    )
    seqs = list(connection.execute(oldest).scalars())
    if not seqs:
        return 0
    return connection.execute(delete(EVENTS).where(EVENTS.c.seq.in_(seqs))).rowcount
