"""Builds events of a rule, so that the same occurrence is the same event, no matter which program reports it."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from attune_contract.events import EventReport, event_id, scheduled
from attune_contract.tracing import NO_TRACE, read_trace
from attune_sensor._rules import Rule


def _now() -> datetime:
    return datetime.now(UTC)


def event_of(
    rule: Rule,
    payload: dict[str, Any],
    *,
    occurrence: str | None = None,
    occurred_at: datetime | None = None,
    traceparent: str = "",
    tracestate: str = "",
    now: Callable[[], datetime] = _now,
) -> EventReport:
    """An event of a rule.

    Args:
        rule: the rule.
        payload: what happened; JSON values.
        occurrence: what identifies this occurrence among those of the rule, such as a message's id. The same occurrence
            reported twice, even after a restart or by another program, is one event. Without it, ``occurred_at``
            identifies the occurrence; an event with neither is never a duplicate.
        occurred_at: when it happened, with a zone; now unless given.
        traceparent: the trace that it belongs to, as it came with a request or a message (the header of that name, W3C Trace
            Context). What is not valid is ignored.
        tracestate: the header of that name.
        now: the wall clock.

    Raises:
        ValueError: ``occurred_at`` has no zone.
    """
    if occurred_at is not None and occurred_at.tzinfo is None:
        raise ValueError("occurred_at has no zone; give one, like datetime.now(UTC)")
    if occurrence is None:
        occurrence = scheduled(occurred_at) if occurred_at is not None else uuid.uuid4().hex
    state = rule.state
    trace = read_trace(traceparent, tracestate) if traceparent else NO_TRACE
    return EventReport(
        id=event_id(state.uid, occurrence),
        trigger_type=state.trigger_type,
        rule_uid=state.uid,
        rule_namespace=state.namespace,
        rule_name=state.name,
        occurred_at=occurred_at or now(),
        payload=payload,
        traceparent=trace.traceparent,
        tracestate=trace.tracestate,
    )
