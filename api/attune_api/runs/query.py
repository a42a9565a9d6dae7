"""Finding runs: pages along an index, in walks of bounded length, and counts.

A page looks at a stretch of one index (that of the rule, the state or the namespace), at most :data:`BUDGET` rows of it at
once, until the page is full or its time is up. So a page may be short, even empty, with a cursor to go on.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, RowMapping, func, select

from attune_api.runs.table import HEAD_COLUMNS, RUNS, SUMMARIES, head, newest_seq
from attune_api.runs.views import RunHead
from attune_api.storage.database import Database
from attune_contract.actions import RunState

Order = Literal["asc", "desc"]
#: Rows of the index that one walk looks at.
BUDGET: Final = 10_000
#: Seconds after which a page that is not full is handed out as it is.
PATIENCE: Final = 0.25
#: How much later than it changed a run may seem to be stored, when clocks differ.
SKEW: Final = timedelta(minutes=10)
_ABOVE_ALL: Final = 2**63 - 1
_EQUAL: Final = ("rule_uid", "rule_namespace", "rule_name", "action", "state", "reason", "event_id")
#: States that few runs are in: their index is walked before the namespace's.
_RARE: Final = frozenset({RunState.FAILED, RunState.WAITING, RunState.RUNNING, RunState.PENDING})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs; None is any. Times are compared with ``updated_at``: after is inclusive, before is not."""

    rule_uid: str | None = None
    rule_namespace: str | None = None
    rule_name: str | None = None
    action: str | None = None
    state: str | None = None
    reason: str | None = None
    event_id: uuid.UUID | None = None
    updated_after: datetime | None = None
    updated_before: datetime | None = None

    @property
    def equal(self) -> dict[str, Any]:
        """What columns must be."""
        return {name: value for name in _EQUAL if (value := getattr(self, name)) is not None}

    @property
    def driver(self) -> tuple[str, ...]:
        """The columns whose index is walked; none for that of ``seq``."""
        equal = self.equal
        if "event_id" in equal:
            return ("event_id",)
        if "rule_uid" in equal:
            return ("rule_uid",)
        if "rule_namespace" in equal and "rule_name" in equal:
            return ("rule_namespace", "rule_name")
        if equal.get("state") in _RARE:
            return ("state",)
        return ("rule_namespace",) if "rule_namespace" in equal else ()

    def clauses(self, columns: Any, *, names: Sequence[str]) -> list[ColumnElement[bool]]:
        """Conditions on ``names`` among the columns, of the table or a subquery."""
        return [columns[name] == value for name, value in self.equal.items() if name in names]

    def times(self, columns: Any) -> list[ColumnElement[bool]]:
        """Conditions on the time."""
        clauses: list[ColumnElement[bool]] = []
        if self.updated_after is not None:
            clauses.append(columns["updated_at"] >= self.updated_after)
        if self.updated_before is not None:
            clauses.append(columns["updated_at"] < self.updated_before)
        return clauses

    def matches(self, run: RunHead) -> bool:
        """Whether a run in memory is wanted."""
        if any(getattr(run, name) != value for name, value in self.equal.items()):
            return False
        updated = datetime.fromisoformat(run.updated_at)
        if self.updated_after is not None and updated < self.updated_after:
            return False
        return self.updated_before is None or updated < self.updated_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Runs in the order of ``seq``.

    ``more`` is the ``seq`` behind which the next page begins; None when this was the last one. ``seen`` is the ``seq`` up to
    which all was looked at: with ``asc``, a later request continues there.
    """

    runs: list[RunHead]
    more: int | None
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one walk found; ``reached`` is the ``seq`` up to which it looked, None when it came to the end."""

    runs: list[RunHead]
    reached: int | None


async def read_page(
    database: Database,
    *,
    where: RunFilter,
    order: Order,
    beyond: int | None,
    limit: int,
    patience: float = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
) -> Page:
    """One page.

    Args:
        database: to read from.
        where: which runs.
        order: ``asc`` for those that changed first.
        beyond: only those after this ``seq`` in that order; None to begin at its beginning.
        limit: how many at most.
        patience: seconds after which the page is handed out though it is not full.
        clock: as ``time.monotonic``.

    Raises:
        QueryTooSlowError, sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: see :meth:`Database.read`.
    """
    ends = clock() + patience
    runs: list[RunHead] = []
    low = beyond if beyond is not None and order == "asc" else 0
    high = beyond if beyond is not None and order == "desc" else _ABOVE_ALL
    newest = await database.read(newest_seq)
    if order == "asc":
        # Not beyond what is there now: a follower comes back to where this ended, having missed nothing.
        high = newest + 1
    if where.updated_after is not None:
        after = where.updated_after - SKEW
        low = max(low, await database.read(lambda connection: place_of(connection, time=after)) - 1)
    while True:
        wanted = limit + 1 - len(runs)
        found = await database.read(partial(walk, where=where, order=order, low=low, high=high, limit=wanted))
        runs += found.runs
        if len(runs) > limit:
            runs = runs[:limit]
            return Page(runs=runs, more=runs[-1].seq, seen=runs[-1].seq)
        if found.reached is None:
            return Page(runs=runs, more=None, seen=max(newest, low) if order == "asc" else 0)
        if clock() >= ends:
            return Page(runs=runs, more=found.reached, seen=found.reached)
        low, high = (found.reached, high) if order == "asc" else (low, found.reached)


def walk(
    connection: Connection, *, where: RunFilter, order: Order, low: int, high: int, limit: int, budget: int = BUDGET
) -> Found:
    """The first runs that fit between two ``seq`` (exclusive), among ``budget`` rows of an index.

    Args:
        connection: to read with.
        where: which runs.
        order: which way.
        low: only above this ``seq``.
        high: only below this one.
        limit: how many at most.
        budget: rows to look at.
    """
    driver = where.driver
    within = [*where.clauses(RUNS.c, names=driver), RUNS.c.seq > low, RUNS.c.seq < high]

    def ordered(columns: Any) -> list[ColumnElement[Any]]:
        return [columns[name].asc() if order == "asc" else columns[name].desc() for name in (*driver, "seq")]

    rest = [name for name in where.equal if name not in driver]
    if not rest and where.updated_after is None and where.updated_before is None:
        statement = select(*HEAD_COLUMNS).where(*within).order_by(*ordered(RUNS.c)).limit(limit)
        rows = [head(row) for row in connection.execute(statement).mappings()]
        return Found(runs=rows, reached=rows[-1].seq if len(rows) == limit else None)
    looked_at = select(*HEAD_COLUMNS).where(*within).order_by(*ordered(RUNS.c)).limit(budget).subquery()
    statement = (
        select(looked_at)
        .where(*where.clauses(looked_at.c, names=rest), *where.times(looked_at.c))
        .order_by(*ordered(looked_at.c))
        .limit(limit)
    )
    rows = [head(row) for row in connection.execute(statement).mappings()]
    if len(rows) == limit:
        return Found(runs=rows, reached=rows[-1].seq)
    last = select(RUNS.c.seq).where(*within).order_by(*ordered(RUNS.c)).offset(budget - 1).limit(1)
    return Found(runs=rows, reached=connection.execute(last).scalar_one_or_none())


def place_of(connection: Connection, *, time: datetime) -> int:
    """The lowest ``seq`` that was stored at ``time`` or later, as far as clocks agree; one above all when there is none.

    Runs are stored in the order of ``seq``, so it is looked for by halves.
    """
    low, high = 1, newest_seq(connection) + 1
    while low < high:
        middle = (low + high) // 2
        found = connection.execute(
            select(RUNS.c.seq, RUNS.c.stored_at).where(RUNS.c.seq >= middle).order_by(RUNS.c.seq).limit(1)
        ).one_or_none()
        if found is None or found.stored_at >= time:
            high = middle
        else:
            low = found.seq + 1
    return low


def count_runs(connection: Connection, *, where: RunFilter, limit: int) -> list[RowMapping]:
    """How many runs of each rule and action are in each state, and why; the most first.

    Args:
        connection: to read with.
        where: which runs.
        limit: lines at most.
    """
    clauses = [*where.clauses(RUNS.c, names=_EQUAL), *where.times(RUNS.c)]
    if where.updated_after is not None:
        clauses.append(RUNS.c.seq >= place_of(connection, time=where.updated_after - SKEW))
    columns = [RUNS.c[name] for name in ("rule_uid", "action", "state", "reason")]
    number = func.count().label("count")
    return list(
        connection.execute(
            select(
                *columns,
                func.max(RUNS.c.rule_namespace).label("rule_namespace"),
                func.max(RUNS.c.rule_name).label("rule_name"),
                number,
            )
            .where(*clauses)
            .group_by(*columns)
            .order_by(number.desc(), *columns)
            .limit(limit)
        ).mappings()
    )


def read_summaries(
    connection: Connection,
    *,
    beyond: int,
    limit: int,
    namespace: str | None = None,
    rule_uids: Sequence[str] = (),
) -> list[RowMapping]:
    """What became of rules' runs, those that changed first first.

    Args:
        connection: to read with.
        beyond: only those that changed after this ``seq``.
        limit: how many at most.
        namespace: only those of this namespace.
        rule_uids: only these; none for all.
    """
    clauses: list[ColumnElement[bool]] = [SUMMARIES.c.seq > beyond]
    if namespace is not None:
        clauses.append(SUMMARIES.c.rule_namespace == namespace)
    if rule_uids:
        clauses.append(SUMMARIES.c.rule_uid.in_(rule_uids))
    # Several rules may share the seq of a transaction that deleted runs: a page never ends between them.
    statement = select(SUMMARIES).where(*clauses).order_by(SUMMARIES.c.seq, SUMMARIES.c.rule_uid)
    rows = list(connection.execute(statement.limit(limit)).mappings())
    if len(rows) < limit:
        return rows
    last = rows[-1]["seq"]
    tail = list(connection.execute(statement.where(SUMMARIES.c.seq == last)).mappings())
    return [row for row in rows if row["seq"] != last] + tail
