"""From a request to an event: what of it is carried."""

from datetime import datetime
from typing import Any

from attune_sensor import EventReport, Rule, Trace, event_id
from attune_webhook.http.request import Request
from attune_webhook.identity import occurrence_of
from attune_webhook.parameters import Hook
from attune_webhook.secrecy import holds_secret


def event_of(rule: Rule, hook: Hook, request: Request, *, received_at: datetime, trace: Trace) -> EventReport:
    """The event of one request.

    Args:
        rule: the rule that asks for it.
        hook: what the rule takes.
        request: the request.
        received_at: when it came.
        trace: the trace that it belongs to.
    """
    state = rule.state
    headers, body = request.headers, request.read
    payload: dict[str, Any] = {
        "method": request.method,
        "path": request.path,
        "query": _query(request),
        "headers": {name: _clean(headers[name]) for name in hook.headers if name in headers},
        "contentType": _clean(request.content_type),
        "encoding": body.encoding,
        "body": body.carried,
        "rule": rule.ref,
    }
    if hook.path.names:
        payload["pathParameters"] = hook.path.match(request.path) or {}
    return EventReport(
        id=event_id(state.uid, occurrence_of(hook, request)),
        trigger_type=state.trigger_type,
        rule_uid=state.uid,
        rule_namespace=state.namespace,
        rule_name=state.name,
        occurred_at=received_at,
        payload=payload,
        traceparent=trace.traceparent,
        tracestate=trace.tracestate,
    )


def _query(request: Request) -> dict[str, list[str]]:
    """The query without what holds secrets."""
    return {
        _clean(name): [_clean(value) for value in values]
        for name, values in request.query.items()
        if not holds_secret(name)
    }


def _clean(text: str) -> str:
    """Text that JSON and the databases can hold: headers may have bytes that are not UTF-8, and queries an encoded NUL."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
