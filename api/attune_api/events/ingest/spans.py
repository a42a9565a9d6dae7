"""The span of storing an event, as a child of the occurrence; where the sensor traces nothing, it begins the trace."""

from collections.abc import Sequence
from typing import Any

from attune_api.events.ingest.sql import Outcome, Status
from attune_contract.tracing import Trace
from attune_kit.tracing import Kind, Span, Tracer

#: A row that may still be changed.
Row = dict[str, Any]


def begin(tracer: Tracer, rows: Sequence[Row]) -> list[Span]:
    """A span for each event that is to be stored. An event without a trace gets that of its span."""
    return [_begin(tracer, row) for row in rows]


def _begin(tracer: Tracer, row: Row) -> Span:
    trigger_type = row["trigger_type"]
    span = tracer.span(
        f"store {trigger_type}",
        kind=Kind.CONSUMER,
        parent=Trace(row["traceparent"], row["tracestate"]),
        attributes={
            "messaging.system": "attune",
            "messaging.operation.name": "store",
            "messaging.operation.type": "process",
            "messaging.destination.name": trigger_type,
            "cloudevents.event_id": str(row["id"]),
            "cloudevents.event_source": f"/attune/sensors/{row['sensor_ref']}",
            "cloudevents.event_spec_version": "1.0",
            "cloudevents.event_subject": f"{row['rule_namespace']}/{row['rule_name']}",
            "cloudevents.event_type": "dev.attune.event",
        },
    )
    if not row["traceparent"]:
        row["traceparent"], row["tracestate"] = span.trace
    return span


def end(spans: Sequence[Span], outcomes: Sequence[Outcome]) -> None:
    """End the spans of events with what became of each."""
    for span, outcome in zip(spans, outcomes, strict=True):
        span.set({"attune.event.status": outcome.status.value})
        if outcome.seq is not None:
            span.set({"attune.event.seq": outcome.seq})
        if outcome.status is Status.REFUSED:
            span.fail("refused", outcome.reason or "")
        span.end()


def fail(spans: Sequence[Span], error: BaseException) -> None:
    """End the spans of events that were not stored."""
    for span in spans:
        span.fail(type(error).__name__)
        span.end()
