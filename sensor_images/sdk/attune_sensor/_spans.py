"""The span of an occurrence: what all that comes of it belongs to."""

import msgspec

from attune_contract.events import EventReport
from attune_contract.tracing import Trace
from attune_kit.tracing import Kind, Tracer


def in_span(tracer: Tracer, event: EventReport, *, sensor: str) -> EventReport:
    """The event as a child of the trace that it came with, or as the beginning of one.

    Args:
        tracer: makes the span.
        event: as it was reported.
        sensor: who reports it, ``namespace/name``.
    """
    with tracer.span(
        f"create {event.trigger_type}",
        kind=Kind.PRODUCER,
        parent=Trace(event.traceparent, event.tracestate),
        attributes={
            "messaging.system": "attune",
            "messaging.operation.name": "create",
            "messaging.operation.type": "create",
            "messaging.destination.name": event.trigger_type,
            "cloudevents.event_id": str(event.id),
            "cloudevents.event_source": f"/attune/sensors/{sensor}",
            "cloudevents.event_spec_version": "1.0",
            "cloudevents.event_subject": f"{event.rule_namespace}/{event.rule_name}",
            "cloudevents.event_type": "dev.attune.event",
            "attune.event.occurred_at": event.occurred_at.isoformat(),
        },
    ) as span:
        trace = span.trace
    return msgspec.structs.replace(event, traceparent=trace.traceparent, tracestate=trace.tracestate)
