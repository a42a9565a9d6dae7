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
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Select, UnaryExpression, func, literal, select, tuple_
from sqlalchemy.sql.operators import custom_op

from attune_api.events.blocks import spans
from attune_api.events.filters import EQUAL, EventFilter
from attune_api.events.store import COLUMNS, EVENTS, StoredEvent, event_of, newest_seq
from attune_api.storage.database import Database

Order = Literal["asc", "desc"]

#: Rows that one walk looks at, when it has to look at each.
_BUDGET: Final = 5000
#: Rows that its first query looks at: where most of them fit, that is enough.
_FIRST_BUDGET: Final = 400
#: Blocks of times that one walk looks into.
_BLOCKS: Final = 32
#: Entries of an index by which the rarer of two columns is found out.
_PROBE: Final = 1000
#: Events of the first query of a page: the others are so many that their payloads fit into what is left of the page.
_FIRST: Final = 10
#: Bytes of payload after which a page is full.
PAGE_BYTES: Final = 2 * 1024 * 1024
#: Seconds after which a page that is not full is handed out as it is.
PATIENCE: Final = 0.25
_ABOVE_ALL: Final = 2**63 - 1
#: What SQLite takes for no column, and so finds in no index.
_PLUS: Final[Any] = custom_op("+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Events in the order of ``seq``.

    ``more`` is the ``seq`` behind which the next page begins; None when this was the last one. ``seen`` is the ``seq`` up
    to which all was looked at in that direction: whoever comes back later goes on there.
    """

    events: Sequence[StoredEvent]
    more: int | None
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What one walk found; ``reached`` is the ``seq`` up to which it looked, None when it came to the end."""

    events: list[StoredEvent]
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
        TooSlow, sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: see :meth:`Database.read`.
    """
    ends = clock() + patience
    events: list[StoredEvent] = []
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
        most_bytes: of payload, after which it is enough; passed by what 10 events have at most.
    """
    dialect = connection.dialect.name
    driver = _driver(connection, where=where, order=order, low=low, high=high)
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
    events: list[StoredEvent] = []
    size = 0
    looked_at = min(_FIRST_BUDGET, budget)
    for span in ranges:
        a, b = span
        while True:
            wanted = limit - len(events)
            wanted = min(wanted, max(1, (most_bytes - size) * len(events) // size) if size else _FIRST)
            index = _index(dialect, driver, order=order, low=a, high=b)
            most = looked_at if index.leaves(where) else wanted
            there = most
            if index.overruns and (where.is_timed or len(driver) > 1):
                there = connection.execute(index.size(most)).scalar_one()
            found: list[StoredEvent] = []
            if there:
                statement = _matching(index, where, dialect, limit=min(wanted, there), budget=min(looked_at, there))
                found = [event_of(row) for row in connection.execute(statement).mappings()]
            events += found
            size += sum(len(event.payload) for event in found)
            if len(found) == wanted:
                if len(events) >= limit or size >= most_bytes:
                    return Walk(events=events, reached=events[-1].seq)
                reached = found[-1].seq
            else:
                last = None
                if index.leaves(where) and there == most:
                    last = connection.execute(index.place(looked_at)).scalar_one_or_none()
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
class _Index:
    """A stretch of one index, in its order."""

    columns: Sequence[str]
    clauses: Sequence[ColumnElement[bool]]
    order: Sequence[ColumnElement[Any]]
    ascending: bool
    low: int
    high: int
    #: As a range of rows (its clauses are the lower and the upper end): the columns, and what all but the last must be.
    key: Sequence[ColumnElement[Any]] = ()
    values: Sequence[str] = ()

    @property
    def overruns(self) -> bool:
        """Whether the database may read on behind the end of the stretch."""
        return bool(self.key)

    def leaves(self, where: EventFilter) -> bool:
        """Whether rows of the stretch have to be tried on more than that."""
        return where.is_timed or bool(where.payload) or any(name not in self.columns for name in where.equal)

    def statement(self, *columns: Any) -> Select[Any]:
        return select(*columns).where(*self.clauses).order_by(*self.order)

    def place(self, number: int) -> Select[Any]:
        """The ``seq`` of the stretch's entry of that number, from 1 on."""
        return self.statement(EVENTS.c.seq).offset(number - 1).limit(1)

    def size(self, most: int) -> Select[Any]:
        """How many entries the stretch has, counted up to ``most``. No more are read, whether in it or behind it.

        Asked of a range of rows on PostgreSQL, which finds the beginning of such a range at once, but does not stop at its
        end (seen with version 15): only where the first column changes. After the last event of a rule it would read all
        that its namespace has. Told how many there are, it stops at the last.
        """
        begins = self.clauses[0 if self.ascending else 1]
        from_there = select(*self.key).where(begins).order_by(*self.order).limit(most).subquery()
        within = [from_there.c[column.name] == value for column, value in zip(self.key, self.values, strict=False)]
        seq = from_there.c.seq
        return select(func.count()).select_from(from_there).where(*within, seq > self.low, seq < self.high)


def _index(dialect: str, driver: dict[str, str], *, order: Order, low: int, high: int) -> _Index:
    """The stretch of the driver's index between two ``seq``.

    On PostgreSQL as a range of rows and not as equality, which says the same: told that a column equals something, its
    planner may hold that common, and rather walk the primary key and try every row. A range leaves it one index that fits.
    """
    columns = [EVENTS.c[name] for name in driver]
    key: list[ColumnElement[Any]] = []
    if dialect == "postgresql" and columns:
        values = [literal(value) for value in driver.values()]
        row = tuple_(*columns, EVENTS.c.seq)
        ends = [tuple_(*values, literal(seq, EVENTS.c.seq.type)) for seq in (low, high)]
        clauses = [row > ends[0], row < ends[1]]
        ordered = key = [*columns, EVENTS.c.seq]
    else:
        clauses = [column == value for column, value in zip(columns, driver.values(), strict=True)]
        clauses += [EVENTS.c.seq > low, EVENTS.c.seq < high]
        ordered = [EVENTS.c.seq]
    return _Index(
        columns=tuple(driver),
        clauses=clauses,
        order=[column.asc() if order == "asc" else column.desc() for column in ordered],
        ascending=order == "asc",
        low=low,
        high=high,
        key=key,
        values=tuple(driver.values()),
    )


def _matching(index: _Index, where: EventFilter, dialect: str, *, limit: int, budget: int) -> Select[Any]:
    """The first ``limit`` events of a stretch that fit, among its first ``budget``."""
    if not index.leaves(where):
        return index.statement(*COLUMNS).limit(limit)
    if dialect == "sqlite":
        # Up to the place where the budget ends, which the index alone tells. SQLite would sort a subquery's rows anew, and
        # so read all of them before it gives out the first. A plus keeps it from walking another index (SQLite's "The
        # query optimizer overview", section 2, "Disqualifying WHERE clause terms").
        at = index.place(budget).scalar_subquery()
        here = EVENTS.c.seq
        within = here <= func.coalesce(at, index.high) if index.ascending else here >= func.coalesce(at, index.low)
        plain: dict[str, Any] = {
            **dict(EVENTS.c.items()),
            **{name: UnaryExpression(EVENTS.c[name], operator=_PLUS) for name in EQUAL},
        }
        tried = where.clauses(plain, dialect, except_for=index.columns)
        return index.statement(*COLUMNS).where(within, *tried).limit(limit)
    looked_at = index.statement(*COLUMNS).limit(budget).subquery()
    seq = looked_at.c.seq
    clauses = where.clauses(looked_at.c, dialect, except_for=index.columns)
    return select(looked_at).where(*clauses).order_by(seq.asc() if index.ascending else seq.desc()).limit(limit)


def _driver(connection: Connection, *, where: EventFilter, order: Order, low: int, high: int) -> dict[str, str]:
    """The columns whose index is walked, and what they must be; empty for the primary key.

    A rule's events are few beside those of its namespace, its type or its sensor; of those three the rarest is chosen, by
    how far its next thousand events reach.
    """
    equal = where.equal
    if "rule_uid" in equal:
        return {"rule_uid": equal["rule_uid"]}
    if "rule_namespace" in equal and "rule_name" in equal:
        return {name: equal[name] for name in ("rule_namespace", "rule_name")}
    candidates: list[dict[str, str]] = [
        {name: equal[name]} for name in ("rule_namespace", "trigger_type", "sensor_ref") if name in equal
    ]
    if len(candidates) < 2:
        return candidates[0] if candidates else {}
    dialect = connection.dialect.name
    reach = connection.execute(
        select(
            *(
                _index(dialect, candidate, order=order, low=low, high=high)
                .statement(EVENTS.c.seq)
                .offset(_PROBE - 1)
                .limit(1)
                .scalar_subquery()
                for candidate in candidates
            )
        )
    ).one()
    return rarest(candidates, reach, order=order)


def rarest(candidates: Sequence[dict[str, str]], reach: Sequence[int | None], *, order: Order) -> dict[str, str]:
    """The candidate whose events reach farthest; None is to the end."""

    def distance(place: int | None) -> int:
        if place is None:
            return _ABOVE_ALL
        return place if order == "asc" else -place

    return max(zip(candidates, reach, strict=True), key=lambda pair: distance(pair[1]))[0]
