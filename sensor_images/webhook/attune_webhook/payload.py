"""From a request to an event: what is carried, and what tells one delivery from another."""

import base64
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from attune_sensor import EventReport, Rule, event_id
from attune_webhook.parameters import Hook, Scheme

#: How deep a JSON body may be nested to be carried as JSON: the API's limit less what is around the body.
_DEEPEST: Final = 30
_LONGEST_ID: Final = 512
#: Where senders that repeat a delivery name it, besides what a rule says itself.
_ID_HEADERS: Final = ("Idempotency-Key", "webhook-id", "X-GitHub-Delivery")


class _StripeEvent(msgspec.Struct):
    id: str


_STRIPE: Final = msgspec.json.Decoder(_StripeEvent)


def occurrence_of(hook: Hook, *, headers: Mapping[str, str], body: bytes) -> str:
    """What tells this delivery from others of the rule: the same twice is one event. Where the sender names its deliveries
    nowhere, each request is an occurrence of its own.

    Where ids are part of what is signed, only those count: who repeats a signed request cannot give it another name.
    """
    if hook.id_header is not None:
        named = _named(hook.id_header, headers)
        if named is not None:
            return named
    match hook.auth.scheme:
        case Scheme.STRIPE:
            try:
                return f"stripe:{_STRIPE.decode(body).id[:_LONGEST_ID]}"
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return uuid.uuid4().hex
        case Scheme.STANDARD:
            candidates: tuple[str, ...] = ("webhook-id",)
        case _:
            candidates = _ID_HEADERS
    for header in candidates:
        named = _named(header, headers)
        if named is not None:
            return named
    return uuid.uuid4().hex


def _named(header: str, headers: Mapping[str, str]) -> str | None:
    value = headers.get(header, "").strip()
    return f"{header.lower()}:{value[:_LONGEST_ID]}" if value else None


def event_of(
    rule: Rule,
    hook: Hook,
    *,
    method: str,
    query: Mapping[str, list[str]],
    headers: Mapping[str, str],
    body: bytes,
    received_at: datetime,
) -> EventReport:
    """The event of one request.

    Args:
        rule: whose it is.
        hook: what the rule takes.
        method: the request's method.
        query: its query, each name with its values in order.
        headers: its headers, found whatever their case.
        body: its body.
        received_at: when it came.
    """
    state = rule.state
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    encoding, carried = encoded(body, content_type)
    payload: dict[str, Any] = {
        "method": method,
        "path": hook.path,
        "query": {_clean(name): [_clean(value) for value in values] for name, values in query.items()},
        "headers": {name: _clean(headers[name]) for name in hook.headers if name in headers},
        "contentType": _clean(content_type),
        "encoding": encoding,
        "body": carried,
        "rule": rule.ref,
    }
    return EventReport(
        id=event_id(state.uid, occurrence_of(hook, headers=headers, body=body)),
        trigger_type=state.trigger_type,
        rule_uid=state.uid,
        rule_namespace=state.namespace,
        rule_name=state.name,
        occurred_at=received_at,
        payload=payload,
    )


def encoded(body: bytes, content_type: str) -> tuple[str, Any]:
    """The body as the payload carries it: ``json`` as it came, ``text``, else ``base64``; ``none`` when it is empty."""
    if not body:
        return "none", None
    if (content_type == "application/json" or content_type.endswith("+json")) and _can_be_carried(body):
        return "json", msgspec.Raw(body)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" not in text:
        return "text", text
    return "base64", base64.b64encode(body).decode("ascii")


def _can_be_carried(body: bytes) -> bool:
    """Whether it is JSON that the API can store: a NUL character it cannot, nor what is nested without end."""
    if b"\\u0000" in body:
        return False
    try:
        value = msgspec.json.decode(body)
        msgspec.json.encode(value)  # half a surrogate pair decodes, and can be written nowhere
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    if body.count(b"{") + body.count(b"[") <= _DEEPEST:
        return True
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return True
    return not any(isinstance(value, dict | list) for value in level)


def _clean(text: str) -> str:
    """Text that JSON and the databases can hold: headers may have bytes that are no UTF-8, and queries an encoded NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
