"""Group commit: whatever waits for the database shares the next transaction.

A commit costs the same for one event as for a thousand (a sync of the disk, a round trip), so requests do not commit by
themselves. They hand their events to one task, which takes all that is waiting, stores it in one transaction, and tells
each request what became of its own. While that transaction runs the next group gathers, so a lone event waits for
nobody, and under load groups grow by themselves. No timer is involved.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from attune_api.events.fresh import FreshEvents
from attune_api.events.ingest.sql import Outcome, Status, store_events
from attune_api.metrics import Metrics
from attune_api.storage.database import Database
from attune_api.storage.faults import is_about_a_row, is_dead
from attune_api.storage.writable import Writable
from attune_contract.tracing import trace_id_of

log = structlog.get_logger(__name__)

#: Events in one transaction. More would keep those who came first waiting.
_LARGEST_GROUP: Final = 2000

#: Seconds that the last events have to be stored when the program ends: what is left of the grace that pods get.
_LAST_TIMEOUT: Final = 5.0

Rows = Sequence[Mapping[str, Any]]


class OverloadedError(Exception):
    """Too many events wait for the database."""


class StorageUnavailableError(Exception):
    """The database did not take the events; the same request may be sent again."""


@dataclass(frozen=True, slots=True)
class _Submission:
    rows: Rows
    outcomes: asyncio.Future[list[Outcome]]


class EventWriter:
    """The one place where events are written. :meth:`run` must be running for :meth:`store` to return.

    Args:
        database: where to.
        metrics: what is counted.
        most_waiting: events that may wait, those of the running transaction included.
        writable: what became of it is said there.
        stored: each is set after a commit that stored something; the outbox and the feed wait for one.
        fresh: is given what was stored.
    """

    def __init__(
        self,
        *,
        database: Database,
        metrics: Metrics,
        most_waiting: int,
        writable: Writable,
        stored: Sequence[asyncio.Event],
        fresh: FreshEvents,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._most_waiting = most_waiting
        self._writable = writable
        self._stored = stored
        self._fresh = fresh
        self._queue: deque[_Submission] = deque()
        self._waiting = 0
        self._arrived = asyncio.Event()
        self._closed = False
        self._failing = False

    async def store(self, rows: Rows) -> list[Outcome]:
        """Store events durably, and say what became of each, in their order.

        Raises:
            OverloadedError: too many are waiting; none of these was taken.
            StorageUnavailableError: the database failed; these may be sent again.
        """
        if not rows:
            return []
        if self._closed or self._waiting + len(rows) > self._most_waiting:
            raise OverloadedError
        submission = _Submission(rows, asyncio.get_running_loop().create_future())
        self._queue.append(submission)
        self._waiting += len(rows)
        self._metrics.waiting.set(self._waiting)
        self._arrived.set()
        return await submission.outcomes

    async def close(self) -> None:
        """Take no more events, and return when all that were taken are answered."""
        self._closed = True
        waiting = [submission.outcomes for submission in self._queue]
        self._arrived.set()
        if waiting:
            await asyncio.wait(waiting, timeout=_LAST_TIMEOUT)

    async def run(self) -> None:
        """Store groups until cancelled."""
        while True:
            await self._arrived.wait()
            group = self._take()
            if not group:
                self._arrived.clear()
                continue
            try:
                await self._store_group(group)
            finally:
                self._waiting -= sum(len(submission.rows) for submission in group)
                self._metrics.waiting.set(self._waiting)
                for submission in group:
                    if not submission.outcomes.done():  # cancelled, or ending: no request may wait for ever
                        submission.outcomes.set_exception(StorageUnavailableError())

    def _take(self) -> list[_Submission]:
        group: list[_Submission] = []
        size = 0
        while self._queue and (not group or size + len(self._queue[0].rows) <= _LARGEST_GROUP):
            submission = self._queue.popleft()
            group.append(submission)
            size += len(submission.rows)
        return group

    async def _store_group(self, group: Sequence[_Submission]) -> None:
        rows = [row for submission in group for row in submission.rows]
        try:
            with self._metrics.commit_seconds.time():
                outcomes = await self._store(rows)
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            if not self._failing:
                self._failing = True
                log.error("events_not_stored", error=type(error).__name__, reason=str(error)[:300])
            self._metrics.commits_failed.inc()
            self._writable.failed(error)
            for submission in group:
                if not submission.outcomes.done():
                    submission.outcomes.set_exception(StorageUnavailableError())
            return
        if self._failing:
            self._failing = False
            log.info("events_stored_again")
        self._writable.worked()
        self._metrics.group_size.observe(len(rows))
        start = 0
        for submission in group:
            end = start + len(submission.rows)
            if not submission.outcomes.done():  # the client may have gone
                submission.outcomes.set_result(outcomes[start:end])
            start = end
        for status in Status:
            # By identity: hashing a member of an enumeration is a call of a function in Python.
            self._metrics.events[status].inc(sum(outcome.status is status for outcome in outcomes))
        self._fresh.add(
            (outcome.seq, row)
            for row, outcome in zip(rows, outcomes, strict=True)
            if outcome.status is Status.STORED and outcome.seq is not None
        )
        for passed_on in self._stored:
            passed_on.set()

    async def _store(self, rows: Rows) -> list[Outcome]:
        """Store the rows, halving the group around a row that the database itself refuses.

        Such a row should not get past validation; if one does, it must not take its neighbours with it.
        """
        try:
            return await self._transact(rows)
        except SQLAlchemyError as error:
            if not is_about_a_row(error):
                raise
            if len(rows) == 1:
                named = {"trace_id": trace_id} if (trace_id := trace_id_of(rows[0]["traceparent"])) else {}
                log.error("event_refused_by_database", event=str(rows[0]["id"]), error=type(error).__name__, **named)
                reason = "The database refuses this event; the API's log says more."
                return [Outcome(status=Status.REFUSED, reason=reason)]
        middle = len(rows) // 2
        return [*await self._store(rows[:middle]), *await self._store(rows[middle:])]

    async def _transact(self, rows: Rows) -> list[Outcome]:
        try:
            return await self._database.write(lambda connection: store_events(connection, rows=rows))
        except (DBAPIError, OSError) as error:
            # The server went away while it committed, and nobody knows whether it did. Storing is idempotent, so a fresh
            # connection may try.
            if not is_dead(error):
                raise
        return await self._database.write(lambda connection: store_events(connection, rows=rows))
