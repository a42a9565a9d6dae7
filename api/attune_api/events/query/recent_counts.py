"""How many events one rule had in each interval, counted from the newest back for as long as there is time: a chart on a page.

:mod:`attune_api.events.query.counts` counts everything, however long it takes. A page must come at once, whether the rule had
ten events or ten million: here an index is walked back in stretches of :data:`STRETCH` entries until the time is up, and what
was counted whole is what the page shows.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from sqlalchemy import Connection, and_, case, func, literal_column, select

from attune_api.events.blocks import BLOCKS, SIZE, hull
from attune_api.events.query.counts import interval_of
from attune_api.events.query.filters import EventFilter
from attune_api.events.table import EVENTS
from attune_api.storage.database import Database

#: Entries of the rule's index that are counted at once.
STRETCH: Final = 20_000
#: Seconds after which counting ends with what there is.
PATIENCE: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What was counted.

    Attributes:
        counts: events by the beginning of their interval; none where there are none.
        since: from when on every interval was counted; None if all were.
    """

    counts: Mapping[datetime, int]
    since: datetime | None


@dataclass(frozen=True, slots=True)
class _Stretch:
    """``reached`` is the ``seq`` up to which it was counted; None when that was the end."""

    counts: Mapping[int, int]
    reached: int | None


async def count_recent(
    database: Database,
    *,
    where: EventFilter,
    interval: int,
    patience: float = PATIENCE,
    stretch: int = STRETCH,
    clock: Callable[[], float] = time.monotonic,
) -> Counted:
    """Counts of one rule by interval, the newest first for as long as there is time.

    Args:
        database: to read from.
        where: which events: ``rule_uid`` and both times must be given, and no payload.
        interval: seconds.
        patience: seconds after which no further stretch is begun.
        stretch: entries of the index that are counted at once.
        clock: as ``time.monotonic``.

    Raises:
        QueryTooSlowError, sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: see :meth:`Database.read`.
    """
    after, before = where.occurred_after, where.occurred_before
    if where.rule_uid is None or after is None or before is None or where.payload:
        raise ValueError("counts of a rule need its uid and both times, and no payload")
    ends = clock() + patience
    found: Counter[int] = Counter()
    span = await database.read(lambda connection: hull(connection, after=after, before=before))
    while span is not None:
        low, high = span
        part = await database.read(partial(_count, where=where, interval=interval, low=low, high=high, rows=stretch))
        found.update(part.counts)
        if part.reached is None:
            break
        span = low, part.reached
        if clock() >= ends:
            latest = await database.read(partial(_latest_below, seq=part.reached, after=after, before=before))
            if latest is not None:
                first = int(latest.timestamp()) // interval + 1
                return Counted(
                    counts=_by_time({at: count for at, count in found.items() if at >= first}, interval),
                    since=datetime.fromtimestamp(first * interval, UTC),
                )
    return Counted(counts=_by_time(found, interval), since=None)


def _by_time(counts: Mapping[int, int], interval: int) -> dict[datetime, int]:
    return {datetime.fromtimestamp(at * interval, UTC): count for at, count in counts.items() if count}


def _count(connection: Connection, *, where: EventFilter, interval: int, low: int, high: int, rows: int) -> _Stretch:
    """Count the first ``rows`` of the rule's events below ``high``, back to ``low``."""
    dialect, asked = connection.dialect.name, where.given
    newest = (
        select(EVENTS.c.seq, EVENTS.c.occurred_at, EVENTS.c.rule_namespace, EVENTS.c.rule_name, EVENTS.c.rule_uid,
               EVENTS.c.trigger_type, EVENTS.c.sensor_ref)
        .where(EVENTS.c.rule_uid == where.rule_uid, EVENTS.c.seq > low, EVENTS.c.seq < high)
        .order_by(EVENTS.c.seq.desc())
        .limit(rows)
        .subquery()
    )  # fmt: skip
    wanted = and_(*asked.clauses(newest.c, dialect, except_for=("rule_uid",)))
    at = interval_of(newest.c.occurred_at, dialect, interval).label("at")
    found = connection.execute(
        select(at, func.sum(case((wanted, 1), else_=0)), func.count(), func.min(newest.c.seq)).group_by(
            literal_column("at")
        ),
        where.parameters,
    ).all()
    looked = sum(row[2] for row in found)
    return _Stretch(
        counts={int(row[0]): int(row[1]) for row in found},
        reached=min(row[3] for row in found) if looked >= rows else None,
    )


def _latest_below(connection: Connection, *, seq: int, after: datetime, before: datetime) -> datetime | None:
    """The latest time that an event below a ``seq`` can have, of those in a time; None when there can be none."""
    latest: datetime | None = connection.execute(
        select(func.max(BLOCKS.c.last_occurred)).where(
            BLOCKS.c.block <= (seq - 1) // SIZE, BLOCKS.c.last_occurred >= after, BLOCKS.c.first_occurred < before
        )
    ).scalar_one()
    return latest
