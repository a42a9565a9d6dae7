"""How many events each rule had in each interval: what a chart shows."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from sqlalchemy import BigInteger, ColumnElement, Connection, Integer, cast, func, literal_column, select

from attune_api.events.blocks import hull
from attune_api.events.query.filters import EventFilter
from attune_api.events.table import EVENTS, rfc3339

#: What an interval can be, in seconds. Intervals begin at whole multiples since 1970 (UTC).
INTERVALS: Final = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "1h": 3600,
    "6h": 21_600,
    "1d": 86_400,
}
#: Intervals in one answer, and counts in it that are not zero.
MAX_INTERVALS: Final = 1500
MAX_COUNTS: Final = 50_000


class TooManyCountsError(ValueError):
    """More counts than one answer may have."""


class Count(msgspec.Struct, frozen=True):
    """How many events occurred in the interval that begins ``at``."""

    at: Annotated[str, Meta(description="When the interval begins.", examples=["2026-11-23T12:00:00.000000Z"])]
    count: Annotated[int, Meta(examples=[3600])]


class RuleCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one rule, oldest first; intervals without events are left out."""

    rule_uid: Annotated[str, Meta(examples=["7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10"])]
    rule_namespace: Annotated[str, Meta(examples=["default"])]
    rule_name: Annotated[str, Meta(examples=["echo-every-second"])]
    total: Annotated[int, Meta(description="All of counts together.", examples=[3600])]
    counts: Annotated[
        list[Count],
        Meta(
            description="Oldest first; intervals without events are left out.",
            examples=[[{"at": "2026-11-23T12:00:00.000000Z", "count": 3600}]],
        ),
    ]


def count_events(connection: Connection, *, where: EventFilter, interval: int) -> list[RuleCounts]:
    """Counts by rule and interval, the rules with the most events first.

    Args:
        connection: to read with.
        where: which events; both its times must be given.
        interval: seconds.

    Raises:
        TooManyCountsError: there are more than :data:`MAX_COUNTS`.
    """
    if where.occurred_after is None or where.occurred_before is None:
        raise ValueError("counts need both times")
    span = hull(connection, after=where.occurred_after, before=where.occurred_before)
    if span is None:
        return []
    dialect = connection.dialect.name
    uid, at = EVENTS.c.rule_uid, interval_of(EVENTS.c.occurred_at, dialect, interval).label("at")
    rows = connection.execute(
        select(uid, func.max(EVENTS.c.rule_namespace), func.max(EVENTS.c.rule_name), at, func.count())
        .where(EVENTS.c.seq > span[0], EVENTS.c.seq < span[1], *where.given.clauses(EVENTS.c, dialect))
        .group_by(uid, literal_column("at"))
        .order_by(uid, literal_column("at"))
        .limit(MAX_COUNTS + 1),
        where.parameters,
    ).all()
    if len(rows) > MAX_COUNTS:
        raise TooManyCountsError(
            f"There are more than {MAX_COUNTS} counts; ask for a longer interval, a shorter time, or fewer rules."
        )
    return by_rule([tuple(row) for row in rows], interval=interval)


def interval_of(time: ColumnElement[datetime], dialect: str, seconds: int) -> ColumnElement[int]:
    """Which interval since 1970 a time is in.

    Args:
        time: a column of the events, or of a subquery.
        dialect: name of SQLAlchemy's dialect.
        seconds: how long an interval is.
    """
    if dialect == "postgresql":
        return cast(func.floor(func.extract("epoch", time) / seconds), BigInteger)
    return cast(func.strftime("%s", time), Integer).op("/")(seconds)


def by_rule(rows: Sequence[tuple[str, str, str, int, int]], *, interval: int) -> list[RuleCounts]:
    """Counts as they are answered, from rows in the order of rule and interval."""
    found = []
    for uid, group in groupby(rows, key=itemgetter(0)):
        of_rule = list(group)
        found.append(
            RuleCounts(
                rule_uid=uid,
                rule_namespace=of_rule[-1][1],
                rule_name=of_rule[-1][2],
                total=sum(row[4] for row in of_rule),
                counts=[
                    Count(at=rfc3339(datetime.fromtimestamp(at * interval, UTC)), count=count)
                    for *_, at, count in of_rule
                ],
            )
        )
    return sorted(found, key=lambda rule: (-rule.total, rule.rule_uid))
