"""Pages of events whose cost does not grow with the table.

Whatever is asked for, one index is walked in the order of ``seq`` (the driver: of the columns that are asked for, the one
with the fewest events), and what else is asked for is tried on each row. A walk has a budget of rows. When that is used
up before the page is full, the next walk begins there, until the page's time is up; then the page is handed out as it
is, short or even empty, with a cursor to go on. So no filter can make the database read five million rows for one request.

Times are no column to walk by, since pages go by ``seq``: :mod:`attune_api.events.blocks` says where to look for them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from attune_api.events.blocks import spans
from attune_api.events.query.filters import EventFilter, Given
from attune_api.events.query.sql import Order, Shape, matching, next_seq, survey, surveys
from attune_api.events.table import READ, newest_seq
from attune_api.storage.database import Database
from attune_contract.events import Event

#: Rows that one walk looks at, when it has to look at each.
_BUDGET: Final = 5000
#: Entries of an index other than the primary key that its first query looks at: where most of them fit, that is enough.
_FIRST_BUDGET: Final = 400
#: Blocks of times that one walk looks into.
_BLOCKS: Final = 32
#: Entries of an index by which the rarer of two columns is found out.
_PROBE: Final = 1000
#: Events that PostgreSQL is asked for at least. For more than that it would look at the size of many that are not wanted.
_FIRST: Final = 128
#: Bytes of payload after which a page is full.
PAGE_BYTES: Final = 2 * 1024 * 1024
#: Seconds after which a page that is not full is handed out as it is.
PATIENCE: Final = 0.25
_ABOVE_ALL: Final = 2**63 - 1
_ANY: Final = EventFilter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Events in the order of ``seq``.

    ``more`` is the ``seq`` behind which the next page begins; None when this was the last one. ``seen`` is the ``seq`` up
    to which all was looked at in that direction: a later request continues there.
    """

    events: Sequence[Event]
    more: int | None
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one walk found; ``reached`` is the ``seq`` up to which it looked, None when it came to the end."""

    events: list[Event]
    reached: int | None


async def read_page(
    database: Database,
    *,
    where: EventFilter,
    order: Order,
    beyond: int | None,
    limit: int,
    patience: float = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
) -> Page:
    """One page.

    Args:
        database: to read from.
        where: which events.
        order: ``asc`` for the oldest first.
        beyond: only those after this ``seq`` in that order; None to begin at its beginning.
        limit: how many at most.
        patience: seconds after which the page is handed out though it is not full.
        clock: as ``time.monotonic``.

    Raises:
        QueryTooSlowError, sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: see :meth:`Database.read`.
    """
    ends = clock() + patience
    events: list[Event] = []
    low = beyond if beyond is not None and order == "asc" else 0
    high = beyond if beyond is not None and order == "desc" else _ABOVE_ALL
    newest = 0

    def work(connection: Connection) -> Found:
        nonlocal high, newest
        if order == "asc" and not newest:
            # Not beyond what is there now: a follower comes back to where this ended, having missed nothing.
            newest = newest_seq(connection)
            high = newest + 1
        size = sum(len(event.payload) for event in events)
        walk = Walk(
            connection,
            where=where,
            order=order,
            limit=limit + 1 - len(events),
            budget=_BUDGET,
            most_bytes=max(PAGE_BYTES - size, 1),
        )
        return walk.between(low, high)

    while True:
        found = await database.read(work)
        events += found.events
        if len(events) > limit:
            events = events[:limit]
            return Page(events=events, more=events[-1].seq, seen=events[-1].seq)
        if found.reached is None:
            seen = max(newest, low) if order == "asc" else 0
            return Page(events=events, more=None, seen=seen)
        if sum(len(event.payload) for event in events) >= PAGE_BYTES or clock() >= ends:
            return Page(events=events, more=found.reached, seen=found.reached)
        low, high = (found.reached, high) if order == "asc" else (low, found.reached)


def walk_on(connection: Connection, *, beyond: int, limit: int, most_bytes: int) -> Found:
    """All that was stored behind a ``seq``, oldest first: for those who pass on everything.

    Args:
        connection: to read with.
        beyond: the ``seq``.
        limit: events at most.
        most_bytes: of payload, after which it is enough; the event that passes them is the last.
    """
    walk = Walk(connection, where=_ANY, order="asc", limit=limit, budget=limit, most_bytes=most_bytes)
    return walk.between(beyond, _ABOVE_ALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """What one query looks at: between two ``seq``, of an index's entries the first ``rows``.

    ``last`` is the ``seq`` up to which that is; None when it is up to the end.
    """

    low: int
    high: int
    rows: int
    last: int | None


class Walk:
    """Looks for events between two ``seq``, stretch by stretch, until there are enough or the budget is used up.

    ``order=desc``, ``trigger_type=T``, ``payload.user=ann``, two events wanted; the index of trigger types is walked, and
    two blocks (spans) can have events of the time that is asked for::

        seq  9000 ──────────────── 8200      4100 ──────────── 3300        0
             └────── span 1 ──────┘           └──── span 2 ────┘
             ├ stretch ┤├─ stretch ─┤         ├ stretch ┤
             . . x . . . . . . . . . .        . . . . . .          x fits, . was looked at and left aside
                                                        ▲
                                       reached: the budget of span 2 is used up, with one event found

    A stretch is one query: so many entries of the index; those that fit are fetched. The first is short, since
    where most events fit it is enough; the others have the whole budget. The caller walks again from ``reached``.

    Args:
        connection: to read with.
        where: which events.
        order: which way.
        limit: events at most.
        budget: rows that may be looked at and left aside, for each query.
        most_bytes: of payload, after which it is enough; the event that passes them is the last.
    """

    def __init__(
        self, connection: Connection, *, where: EventFilter, order: Order, limit: int, budget: int, most_bytes: int
    ) -> None:
        self._connection = connection
        self._where = where
        self._ascending = order == "asc"
        self._order: Order = order
        self._limit = limit
        self._budget = budget
        self._most_bytes = most_bytes
        self._parameters = where.parameters
        self._events: list[Event] = []
        self._bytes = 0  # of their payloads

    def between(self, low: int, high: int) -> Found:
        """Walk.

        Args:
            low: only above this ``seq``.
            high: only below this one.
        """
        driver = _driver(self._connection, where=self._where, order=self._order, low=low, high=high)
        self._shape = Shape.of(self._where, dialect=self._connection.dialect.name, driver=driver, order=self._order)
        # By the primary key rows are looked at only until there are enough; of another index they are counted first.
        self._look_at = min(_FIRST_BUDGET, self._budget) if driver else self._budget
        walked, complete = self._spans(low, high)
        for span in walked:
            reached = self._walk_span(*span)
            if reached is not None:
                return Found(events=self._events, reached=reached)
        if complete or not walked:
            return Found(events=self._events, reached=None)
        low, high = walked[-1]
        return Found(events=self._events, reached=high - 1 if self._ascending else low + 1)

    def _spans(self, low: int, high: int) -> tuple[Sequence[tuple[int, int]], bool]:
        """Where events of the time that is asked for can be, and whether that is all."""
        if self._where.is_timed:
            return spans(
                self._connection,
                after=self._where.occurred_after,
                before=self._where.occurred_before,
                order=self._order,
                low=low,
                high=high,
                most=_BLOCKS,
            )
        if self._shape.leaves and not self._shape.driver and not self._ascending and high == _ABOVE_ALL:
            high = newest_seq(self._connection) + 1  # where there are events to look at
        return [(low, high)], True

    def _walk_span(self, low: int, high: int) -> int | None:
        """Walk one span; the ``seq`` that was reached if the walk ends in it, None if it was walked to its end."""
        while True:
            wanted = self._wanted()
            stretch = self._next_stretch(low, high, most=self._look_at if self._shape.leaves else wanted)
            found = self._fetch(stretch, wanted)
            if self._events and (len(self._events) >= self._limit or self._bytes >= self._most_bytes):
                return self._events[-1].seq
            if found == wanted:
                reached = self._events[-1].seq
            else:
                last = stretch.last
                if last is not None and not self._shape.driver:
                    last = _before_next(self._connection, order=self._order, low=low, high=high, last=last)
                if last is None or self._look_at == self._budget:
                    return last
                reached = last
                self._look_at = self._budget
            low, high = (reached, high) if self._ascending else (low, reached)

    def _wanted(self) -> int:
        """How many events to fetch at once."""
        wanted = self._limit - len(self._events)
        if self._shape.dialect == "postgresql":
            rest = self._most_bytes - self._bytes
            by_size = rest * len(self._events) // self._bytes if self._bytes else 0
            wanted = min(wanted, max(_FIRST, by_size))
        return wanted

    def _next_stretch(self, low: int, high: int, *, most: int) -> _Stretch:
        """The next ``most`` rows to look at between two ``seq``."""
        shape = self._shape
        if not shape.driver:
            if not shape.leaves or high - low - 1 <= most:
                return _Stretch(low=low, high=high, rows=most, last=None)
            # The primary key needs no counting: numbers follow each other, but for gaps.
            last = low + most if self._ascending else high - most
        else:
            at_its_end = shape.overruns and (shape.given.is_timed or len(shape.driver) > 1)
            if not shape.leaves and not at_its_end:
                return _Stretch(low=low, high=high, rows=most, last=None)
            values = {**self._parameters, "low": low, "high": high, "most": most}
            rows, last = self._connection.execute(survey(shape), values).one()
            if rows < most:
                return _Stretch(low=low, high=high, rows=rows, last=None)
        if self._ascending:
            return _Stretch(low=low, high=last + 1, rows=most, last=last)
        return _Stretch(low=last - 1, high=high, rows=most, last=last)

    def _fetch(self, stretch: _Stretch, wanted: int) -> int:
        """Take the events of a stretch that fit, up to the one that passes ``most_bytes``; how many."""
        if not stretch.rows:
            return 0
        read = READ[self._shape.dialect]
        most_bytes = self._most_bytes - self._bytes
        values = {"limit": min(wanted, stretch.rows), "most": stretch.rows, "most_bytes": most_bytes}
        parameters = {**self._parameters, "low": stretch.low, "high": stretch.high, **values}
        before = len(self._events)
        with self._connection.execute(matching(self._shape), parameters) as rows:
            # One after the other: SQLite reads no farther than it is asked to.
            for row in rows:
                event = read(row)
                self._events.append(event)
                self._bytes += len(event.payload)
                if self._bytes >= self._most_bytes:
                    break
        return len(self._events) - before


def _before_next(connection: Connection, *, order: Order, low: int, high: int, last: int) -> int | None:
    """A ``seq`` behind which the next event there is follows at once, from ``last`` on; None when there is none."""
    between = {"low": last, "high": high} if order == "asc" else {"low": low, "high": last}
    there_is: int | None = connection.execute(next_seq(order), between).scalar_one()
    if there_is is None:
        return None
    return there_is - 1 if order == "asc" else there_is + 1


def _driver(connection: Connection, *, where: EventFilter, order: Order, low: int, high: int) -> tuple[str, ...]:
    """The columns whose index is walked; none for the primary key.

    A rule's events are few beside those of its namespace, its type or its sensor; of those three the rarest is chosen, by
    how far its next thousand events reach.
    """
    equal = where.equal
    if "rule_uid" in equal:
        return ("rule_uid",)
    if "rule_namespace" in equal and "rule_name" in equal:
        return ("rule_namespace", "rule_name")
    candidates = [name for name in ("rule_namespace", "trigger_type", "sensor_ref") if name in equal]
    if len(candidates) < 2:
        return tuple(candidates)
    dialect = connection.dialect.name
    shapes = tuple(Shape(dialect, (name,), order, Given((name,))) for name in candidates)
    found = connection.execute(surveys(shapes), {**equal, "low": low, "high": high, "most": _PROBE}).one()
    reach = [last if rows == _PROBE else None for rows, last in zip(found[::2], found[1::2], strict=True)]
    return (rarest(candidates, reach, order=order),)


def rarest(candidates: Sequence[str], reach: Sequence[int | None], *, order: Order) -> str:
    """The candidate whose events reach farthest; None is to the end."""

    def distance(place: int | None) -> int:
        if place is None:
            return _ABOVE_ALL
        return place if order == "asc" else -place

    return max(zip(candidates, reach, strict=True), key=lambda pair: distance(pair[1]))[0]
