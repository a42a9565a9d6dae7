"""The statements by which pages are read, each made once for all requests that differ in values alone.

Making a statement of SQLAlchemy's costs a millisecond, ten times what running it does, so what a statement depends on is
a :class:`Shape`, by which it is kept, and values are parameters: ``low`` and ``high`` (``seq``, exclusive), ``limit``,
``most``, ``most_bytes``, and those of :attr:`EventFilter.parameters`.

**A walk is a stretch of one index.** On PostgreSQL it is a range of rows and not equality, which says the same: told that a
column equals something, its planner may hold that common, and rather walk the primary key and try every row. A range leaves
it one index that fits. But PostgreSQL, which finds the beginning of such a range at once, does not stop at its end (seen with
version 15): only where the first column changes, which is after all that the namespace of a rule has. So the query says how
many rows there are (:func:`survey`), and stops at the last.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Text,
    UnaryExpression,
    bindparam,
    cast,
    func,
    select,
    true,
    tuple_,
)
from sqlalchemy.sql.operators import custom_op

from attune_api.events.query.filters import EQUAL, EventFilter, Given
from attune_api.events.table import EVENTS, FIELDS, READ, as_stored
from attune_contract.events import Event

Order = Literal["asc", "desc"]
#: What SQLite takes for no column, and so finds in no index.
_PLUS: Final[Any] = custom_op("+")
#: Statements of each kind that are kept: more than the combinations of filters in use.
_KEPT: Final = 128


@dataclass(frozen=True, slots=True)
class Shape:
    """What statements depend on.

    ``driver`` are the columns whose index is walked, none for the primary key.
    """

    dialect: str
    driver: tuple[str, ...]
    order: Order
    given: Given

    @classmethod
    def of(cls, where: EventFilter, *, dialect: str, driver: Sequence[str], order: Order) -> "Shape":
        """The shape of a walk."""
        return cls(dialect, tuple(driver), order, where.given)

    @property
    def leaves(self) -> bool:
        """Whether rows of the stretch have to be tried on more than the index tells."""
        return self.given.is_timed or bool(self.given.payload) or any(n not in self.driver for n in self.given.equal)

    @property
    def overruns(self) -> bool:
        """Whether the database may read on behind the end of the stretch."""
        return self.dialect == "postgresql" and bool(self.driver)

    def ordered(self, columns: Any) -> list[ColumnElement[Any]]:
        """The index's order, of columns of the table or of a subquery: any other would mean to read and sort all rows."""
        names = [*self.driver, "seq"] if self.overruns else ["seq"]
        return [columns[name].asc() if self.order == "asc" else columns[name].desc() for name in names]


def _kept(make: Callable[[Shape], Select[Any]]) -> Callable[[Shape], Select[Any]]:
    """Keep what was made, unless the filter has a path into payloads, and so may be any of very many."""
    keeping = lru_cache(_KEPT)(make)

    @wraps(make)
    def kept(shape: Shape) -> Select[Any]:
        return make(shape) if shape.given.payload else keeping(shape)

    return kept


@_kept
def survey(shape: Shape) -> Select[Any]:
    """How many of its stretch's first ``most`` entries there are, and the ``seq`` of the last of these. No more are read."""
    number = bindparam("most", type_=BigInteger)
    if not shape.overruns:
        entries = _stretch(shape, EVENTS.c.seq).limit(number).subquery()
        within: list[ColumnElement[bool]] = []
    else:
        key = _key(shape)
        begins = _ends(shape)[0 if shape.order == "asc" else 1]
        entries = select(*key).where(begins).order_by(*shape.ordered(EVENTS.c)).limit(number).subquery()
        within = [*(entries.c[name] == _equal(name) for name in shape.driver), *_between(entries.c.seq)]
    last = func.max(entries.c.seq) if shape.order == "asc" else func.min(entries.c.seq)
    return select(func.count(), last).select_from(entries).where(*within)


@lru_cache(_KEPT)
def surveys(shapes: tuple[Shape, ...]) -> Select[Any]:
    """Several :func:`survey` at once, of different drivers, in one row."""
    first, *others = (survey(shape).subquery() for shape in shapes)
    tables: FromClause = first
    for other in others:
        tables = tables.join(other, true())
    return select(*(column for table in (first, *others) for column in table.c)).select_from(tables)


@_kept
def matching(shape: Shape) -> Select[Any]:
    """The first ``limit`` events that fit, among the stretch's first ``most``; as columns of :func:`as_stored`.

    On PostgreSQL those behind ``most_bytes`` of payload are left off; on SQLite the reader may stop at any time.
    ``most`` is asked for on PostgreSQL where rows of a driver's index are tried; elsewhere ``low`` and ``high`` have to say
    where to end.
    """
    limit = bindparam("limit", type_=BigInteger)
    if shape.dialect != "postgresql":
        # SQLite would sort a subquery's rows again, and so read all of them before it gives out the first. A plus keeps it
        # from walking another index (SQLite's "The query optimizer overview", section 2, "Disqualifying WHERE clause
        # terms").
        plain: dict[str, Any] = {
            **dict(EVENTS.c.items()),
            **{name: UnaryExpression(EVENTS.c[name], operator=_PLUS) for name in EQUAL},
        }
        tried = shape.given.clauses(plain, shape.dialect, except_for=shape.driver)
        return _stretch(shape, *as_stored(EVENTS.c)).where(*tried).limit(limit)
    columns = [EVENTS.c[name] for name in FIELDS]
    if not shape.driver:
        tried = shape.given.clauses(EVENTS.c, shape.dialect)
        found = _stretch(shape, *columns).where(*tried).limit(limit).subquery()
    elif not shape.leaves:
        found = _stretch(shape, *columns).limit(limit).subquery()
    else:
        looked_at = _stretch(shape, *columns).limit(bindparam("most", type_=BigInteger)).subquery()
        tried = shape.given.clauses(looked_at.c, shape.dialect, except_for=shape.driver)
        found = select(looked_at).where(*tried).order_by(*shape.ordered(looked_at.c)).limit(limit).subquery()
    # As text, which asyncpg reads by itself; JSON it would hand to a function for each row.
    payload = cast(found.c.payload, Text)
    before = func.sum(func.octet_length(payload)).over(order_by=shape.ordered(found.c), rows=(None, -1)).label("before")
    rest = [found.c[name] for name in FIELDS if name != "payload"]
    sized = select(*rest, payload.label("payload"), before).subquery()
    enough = func.coalesce(sized.c.before, 0) < bindparam("most_bytes", type_=BigInteger)
    return select(*as_stored(sized.c)).where(enough).order_by(*shape.ordered(sized.c))


@lru_cache(2)
def next_seq(order: Order) -> Select[Any]:
    """The ``seq`` of the next event there is between ``low`` and ``high``."""
    nearest = func.min(EVENTS.c.seq) if order == "asc" else func.max(EVENTS.c.seq)
    return select(nearest).where(*_between())


def _stretch(shape: Shape, *columns: Any) -> Select[Any]:
    return select(*columns).where(*_ends(shape)).order_by(*shape.ordered(EVENTS.c))


def _ends(shape: Shape) -> list[ColumnElement[bool]]:
    """The stretch as conditions; where it overruns, the first is its lower end and the second its upper."""
    if not shape.overruns:
        return [*(EVENTS.c[name] == _equal(name) for name in shape.driver), *_between()]
    row = tuple_(*_key(shape))
    values = [_equal(name) for name in shape.driver]
    low, high = (tuple_(*values, bindparam(name, type_=BigInteger)) for name in ("low", "high"))
    return [row > low, row < high]


def _between(seq: ColumnElement[int] = EVENTS.c.seq) -> list[ColumnElement[bool]]:
    return [seq > bindparam("low", type_=BigInteger), seq < bindparam("high", type_=BigInteger)]


def _key(shape: Shape) -> list[ColumnElement[Any]]:
    return [*(EVENTS.c[name] for name in shape.driver), EVENTS.c.seq]


def _equal(name: str) -> ColumnElement[str]:
    return bindparam(name, type_=Text)


#: Events of one id that are looked at, when the rule is not named. Honest sensors make one.
MAX_SHARING_ID: Final = 20
_BY_ID: Final = (
    select(*as_stored(EVENTS.c)).where(EVENTS.c.id == bindparam("id", type_=EVENTS.c.id.type)).order_by(EVENTS.c.seq)
)
_BY_ID_AND_RULE: Final = _BY_ID.where(EVENTS.c.rule_uid == bindparam("rule_uid", type_=EVENTS.c.rule_uid.type))


def get_events(connection: Connection, *, event_id: uuid.UUID, rule_uid: str | None = None) -> list[Event]:
    """The events with this id, oldest first: at most one of each rule, and at most :data:`MAX_SHARING_ID` + 1.

    Args:
        connection: to read with.
        event_id: the id.
        rule_uid: only that of this rule.
    """
    if rule_uid is None:
        rows = connection.execute(_BY_ID.limit(MAX_SHARING_ID + 1), {"id": event_id})
    else:
        rows = connection.execute(_BY_ID_AND_RULE, {"id": event_id, "rule_uid": rule_uid})
    return [READ[connection.dialect.name](row) for row in rows]
