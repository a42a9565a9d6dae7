"""Pages of events whose cost does not grow with the table.

Whatever is asked for, one index is walked in the order of ``seq`` (the driver: of the columns that are asked for, the one
with the fewest events), and what else is asked for is tried on each row. A walk has a budget of rows. When that is used
up before the page is full, the next walk begins there, until the page's time is up; then the page is handed out as it
is, short or even empty, with a cursor to go on. So no filter can make the database read five million rows for one request.

Times are no column to walk by, since pages go by ``seq``: :mod:`attune_api.events.blocks` says where to look for them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

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
class Walk:
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

    def work(connection: Connection) -> Walk:
        nonlocal high, newest
        if order == "asc" and not newest:
            # Not beyond what is there now: a follower comes back to where this ended, having missed nothing.
            newest = newest_seq(connection)
            high = newest + 1
        size = sum(len(event.payload) for event in events)
        return walk(
            connection,
            where=where,
            order=order,
            low=low,
            high=high,
            limit=limit + 1 - len(events),
            budget=_BUDGET,
            most_bytes=max(PAGE_BYTES - size, 1),
        )

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


def walk_on(connection: Connection, *, beyond: int, limit: int, most_bytes: int) -> Walk:
    """Whatever was stored behind a ``seq``, oldest first: for who passes on everything.

    Args:
        connection: to read with.
        beyond: the ``seq``.
        limit: events at most.
        most_bytes: of payload, after which it is enough; the event that passes them is the last.
    """
    return walk(
        connection,
        where=_ANY,
        order="asc",
        low=beyond,
        high=_ABOVE_ALL,
        limit=limit,
        budget=limit,
        most_bytes=most_bytes,
    )


def walk(
    connection: Connection,
    *,
    where: EventFilter,
    order: Order,
    low: int,
    high: int,
    limit: int,
    budget: int,
    most_bytes: int,
) -> Walk:
    """Look for events between two ``seq``, both exclusive, until there are ``limit`` or one of the bounds is reached.

    Args:
        connection: to read with.
        where: which events.
        order: which way.
        low: only above this ``seq``.
        high: only below this one.
        limit: events at most.
        budget: rows that may be looked at and left aside, for each query.
        most_bytes: of payload, after which it is enough; the event that passes them is the last.
    """
    driver = _driver(connection, where=where, order=order, low=low, high=high)
    shape = Shape.of(where, dialect=connection.dialect.name, driver=driver, order=order)
    parameters = where.parameters
    if shape.leaves and not driver and not where.is_timed and order == "desc" and high == _ABOVE_ALL:
        high = newest_seq(connection) + 1  # where there are events to look at
    ranges, complete = [(low, high)], True
    if where.is_timed:
        ranges, complete = spans(
            connection,
            after=where.occurred_after,
            before=where.occurred_before,
            order=order,
            low=low,
            high=high,
            most=_BLOCKS,
        )
    events: list[Event] = []
    size = 0
    # By the primary key rows are looked at only until there are enough; of another index they are counted first.
    looked_at = min(_FIRST_BUDGET, budget) if driver else budget
    for span in ranges:
        a, b = span
        while True:
            wanted = limit - len(events)
            if shape.dialect == "postgresql":
                wanted = min(wanted, max(_FIRST, (most_bytes - size) * len(events) // size if size else 0))
            most = looked_at if shape.leaves else wanted
            stretch = _stretch(connection, shape, parameters, low=a, high=b, most=most)
            found: list[Event] = []
            if stretch.rows:
                values = {"limit": min(wanted, stretch.rows), "most": stretch.rows, "most_bytes": most_bytes - size}
                found = _fetch(connection, shape, {**parameters, "low": stretch.low, "high": stretch.high, **values})
            events += found
            size += sum(len(event.payload) for event in found)
            if events and (len(events) >= limit or size >= most_bytes):
                return Walk(events=events, reached=events[-1].seq)
            if len(found) == wanted:
                reached = found[-1].seq
            else:
                last = stretch.last
                if last is not None and not driver:
                    last = _before_next(connection, order=order, low=a, high=b, last=last)
                if last is None:
                    break
                reached = last
                if looked_at == budget:
                    return Walk(events=events, reached=reached)
                looked_at = budget
            a, b = (reached, b) if order == "asc" else (a, reached)
    if complete or not ranges:
        return Walk(events=events, reached=None)
    a, b = ranges[-1]
    return Walk(events=events, reached=b - 1 if order == "asc" else a + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """What one query looks at: between two ``seq``, of an index's entries the first ``rows``.

    ``last`` is the ``seq`` up to which that is; None when it is up to the end.
    """

    low: int
    high: int
    rows: int
    last: int | None


def _stretch(
    connection: Connection, shape: Shape, parameters: Mapping[str, Any], *, low: int, high: int, most: int
) -> _Stretch:
    """The next ``most`` rows to look at between two ``seq``."""
    ascending = shape.order == "asc"
    if not shape.driver:
        if not shape.leaves or high - low - 1 <= most:
            return _Stretch(low=low, high=high, rows=most, last=None)
        # The primary key needs no counting: numbers follow each other, but for gaps.
        last = low + most if ascending else high - most
    else:
        at_its_end = shape.overruns and (shape.given.is_timed or len(shape.driver) > 1)
        if not shape.leaves and not at_its_end:
            return _Stretch(low=low, high=high, rows=most, last=None)
        rows, last = connection.execute(survey(shape), {**parameters, "low": low, "high": high, "most": most}).one()
        if rows < most:
            return _Stretch(low=low, high=high, rows=rows, last=None)
    if ascending:
        return _Stretch(low=low, high=last + 1, rows=most, last=last)
    return _Stretch(low=last - 1, high=high, rows=most, last=last)


def _before_next(connection: Connection, *, order: Order, low: int, high: int, last: int) -> int | None:
    """A ``seq`` behind which the next event there is follows at once, from ``last`` on; None when there is none."""
    between = {"low": last, "high": high} if order == "asc" else {"low": low, "high": last}
    there_is: int | None = connection.execute(next_seq(order), between).scalar_one()
    if there_is is None:
        return None
    return there_is - 1 if order == "asc" else there_is + 1


def _fetch(connection: Connection, shape: Shape, parameters: Mapping[str, Any]) -> list[Event]:
    """Events of a stretch that fit, up to the one that passes ``most_bytes``."""
    read = READ[shape.dialect]
    most_bytes = parameters["most_bytes"]
    found: list[Event] = []
    size = 0
    with connection.execute(matching(shape), parameters) as rows:
        # One after the other: SQLite reads no farther than it is asked to.
        for row in rows:
            event = read(row)
            found.append(event)
            size += len(event.payload)
            if size >= most_bytes:
                break
    return found


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
