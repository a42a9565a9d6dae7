"""The runner's spans: an event that is processed, its conditions, and each attempt (docs/tracing.md)."""

from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from attune_actions.carrying import Attempt, Task
from attune_actions.settling import Outcome
from attune_contract.actions import ActionKind
from attune_contract.events import Event
from attune_contract.subjects import EVENTS_STREAM
from attune_contract.tracing import Trace
from attune_kit.tracing import Kind, Span, Tracer

#: What an attempt is to what it talks to; of the others it is a client.
_KINDS: Final = {ActionKind.NATS: Kind.PRODUCER, ActionKind.EMIT: Kind.PRODUCER}


def trace_of(event: Event) -> Trace:
    """The trace that an event belongs to."""
    return Trace(event.traceparent, event.tracestate)


def processing(tracer: Tracer, event: Event) -> Span:
    """The span of what is done for an event."""
    return tracer.span(
        f"process {event.trigger_type}",
        kind=Kind.CONSUMER,
        parent=trace_of(event),
        attributes={
            "messaging.system": "nats",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": EVENTS_STREAM,
            "messaging.message.id": f"{event.rule_uid}/{event.id}",
            "cloudevents.event_id": str(event.id),
            "cloudevents.event_source": f"/attune/sensors/{event.sensor_ref}",
            "cloudevents.event_subject": f"{event.rule_namespace}/{event.rule_name}",
            "attune.event.seq": event.seq,
        },
    )


def evaluating(tracer: Tracer, trace: Trace, *, when: str | None) -> Span:
    """The span of the Rule's conditions and of what fills its actions in."""
    return tracer.span("evaluate", parent=trace, attributes={"attune.rule.when": when} if when else None)


def attempting(tracer: Tracer, task: Task) -> Span:
    """The span of an attempt."""
    run, kind = task.run, task.step.kind
    attributes: dict[str, Any] = {
        "attune.action.name": run.action,
        "attune.action.kind": kind.value,
        "attune.run.id": str(run.id),
        "attune.run.attempt": run.attempts_made + 1,
    }
    name = f"{kind.value} {run.action}"
    if kind is ActionKind.HTTP:
        name, more = _http(task.step.request)
        attributes |= more
        if run.attempts_made:
            attributes["http.request.resend_count"] = run.attempts_made
    return tracer.span(name, kind=_KINDS.get(kind, Kind.CLIENT), parent=task.trace, attributes=attributes)


def _http(request: Any) -> tuple[str, dict[str, Any]]:
    """Name and attributes of a request (OpenTelemetry's conventions for HTTP clients). The query may hold secrets."""
    method = str(request.get("method", "POST"))
    try:
        parts = urlsplit(str(request["url"]))
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        return method, {"http.request.method": method}
    host = parts.hostname or ""
    return method, {
        "http.request.method": method,
        "server.address": host,
        "server.port": port,
        "url.full": urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")),
    }


class AttemptSpans:
    """Makes each attempt in a span of its own.

    Args:
        tracer: makes the spans.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def __call__(self, task: Task, attempt: Attempt) -> Outcome:
        """Make an attempt, whose target is told of its span."""
        with attempting(self._tracer, task) as span:
            outcome = await attempt(msgspec.structs.replace(task, trace=span.trace))
            settle(span, outcome)
        return outcome


def settle(span: Span, outcome: Outcome) -> None:
    """Say what came of an attempt. Secrets are masked in its sentence."""
    span.set({"attune.attempt.outcome": outcome.reason.value or "Succeeded"})
    if outcome.status is not None:
        span.set({"http.response.status_code": outcome.status})
    if not outcome.succeeded and not outcome.skipped:
        failed = str(outcome.status) if outcome.status is not None else outcome.reason.value
        span.fail(failed, outcome.message)
