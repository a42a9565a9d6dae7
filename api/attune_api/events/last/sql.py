"""The event of each rule that was stored last: where a sensor goes on after it was down."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from sqlalchemy import ColumnElement, Connection, Row, func, literal, select, union_all

from attune_api.events.table import EVENTS, rfc3339
from attune_contract.events import TimeText

#: Rules that one question may be about.
MAX_RULES: Final = 200


class LastEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The event of a rule that was stored last."""

    rule_uid: str
    id: uuid.UUID
    seq: int
    occurred_at: Annotated[
        TimeText, Meta(description="RFC 3339, UTC, microseconds.", examples=["2026-11-23T12:00:00.000000Z"])
    ]


def last_events(connection: Connection, *, sensor_ref: str, rule_uids: Sequence[str]) -> list[LastEvent]:
    """The last event of each of these rules, where this sensor reported it; other rules are left out.

    Each rule costs one step in the index (rule_uid, seq), however many events it has.

    Args:
        connection: to read with.
        sensor_ref: the sensor, namespace/name.
        rule_uids: at most :data:`MAX_RULES`.
    """
    columns = (EVENTS.c.rule_uid, EVENTS.c.id, EVENTS.c.seq, EVENTS.c.occurred_at)
    return [
        LastEvent(rule_uid=row.rule_uid, id=row.id, seq=row.seq, occurred_at=rfc3339(row.occurred_at))
        for row in _last(connection, columns, sensor_ref=sensor_ref, rule_uids=rule_uids)
    ]


def reported_rules(connection: Connection, *, sensor_ref: str, rule_uids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Of these rules, those whose last event this sensor reported, with their namespaces and names.

    Args:
        connection: to read with.
        sensor_ref: the sensor, namespace/name.
        rule_uids: any number.
    """
    columns = (EVENTS.c.rule_uid, EVENTS.c.rule_namespace, EVENTS.c.rule_name)
    return {
        row.rule_uid: (row.rule_namespace, row.rule_name)
        for start in range(0, len(rule_uids), MAX_RULES)
        for row in _last(connection, columns, sensor_ref=sensor_ref, rule_uids=rule_uids[start : start + MAX_RULES])
    }


def _last(
    connection: Connection, columns: Sequence[ColumnElement[Any]], *, sensor_ref: str, rule_uids: Sequence[str]
) -> Sequence[Row[Any]]:
    wanted = list(dict.fromkeys(rule_uids))
    if not wanted:
        return []
    rules = union_all(*(select(literal(uid).label("rule_uid")) for uid in wanted)).subquery()
    # Correlated, so that each maximum is looked up; grouped, all of a rule's entries would be read.
    newest = select(func.max(EVENTS.c.seq)).where(EVENTS.c.rule_uid == rules.c.rule_uid).scalar_subquery()
    numbers = [seq for _, seq in connection.execute(select(rules.c.rule_uid, newest)) if seq is not None]
    statement = select(*columns).where(EVENTS.c.seq.in_(numbers), EVENTS.c.sensor_ref == sensor_ref)
    return connection.execute(statement).all()
