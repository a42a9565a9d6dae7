"""From a message of a queue to an event. Pure."""

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

import msgspec

from attune_kit.bodies import read_body
from attune_sensor import Message

#: Times before and after these are no times: a publisher has counted in another unit.
_EARLIEST: Final = datetime(2001, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2191, 1, 1, tzinfo=UTC)
#: How deep a header may be nested to be carried as JSON; what is deeper is carried as text.
_DEEPEST: Final = 8
#: Larger integers are carried as text.
_LARGEST_INTEGER: Final = 2**63


class Identity(msgspec.Struct, frozen=True):
    """What a message's publisher calls it.

    Attributes:
        kind: where that stands: ``header`` or ``id``.
        name: the name.
    """

    kind: str
    name: str


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a queue.

    Attributes:
        server: the server's name.
        queue: the queue.
        identity: its name; None when its publisher gave it none.
        exchange: the exchange to which it was published; empty for the default one.
        routing_key: the key with which it was published.
        redelivered: whether it was delivered before, to anybody.
        properties: those of its properties that are set, by their names in AMQP.
        headers: its headers, with values as AMQP has them.
        body: its body.
    """

    server: str
    queue: str
    identity: Identity | None
    exchange: str
    routing_key: str
    redelivered: bool
    properties: Mapping[str, Any]
    headers: Mapping[str, Any]
    body: bytes


def identity_of(headers: Mapping[str, Any], properties: Mapping[str, Any], *, id_header: str | None) -> Identity | None:
    """What its publisher calls a message; None when it has no name.

    Args:
        headers: its headers.
        properties: its properties.
        id_header: the header that names it; None: the property message_id alone.
    """
    header = None if id_header is None else headers.get(id_header)
    if isinstance(header, str | int) and not isinstance(header, bool) and header != "":
        return Identity("header", str(header))
    message_id = properties.get("message_id")
    return Identity("id", str(message_id)) if message_id else None


def occurrence_of(content: Content, *, delivery: str) -> str:
    """What names a message for ever.

    The broker gives messages no name, so it is the one that the publisher gave. A message without one is named by its
    delivery: delivered again, it is another occurrence (decision 102).

    Args:
        content: the message.
        delivery: a name that no other delivery has.
    """
    identity = content.identity or Identity("delivery", delivery)
    application = str(content.properties.get("app_id") or "")
    # Quoted, since names of queues and messages may hold any character.
    parts = (content.server, content.queue, identity.kind, application, identity.name)
    return "/".join(quote(part, safe="") for part in parts)


def occurred_at(content: Content) -> datetime | None:
    """When its publisher says that it happened; None when it does not say, or says nonsense."""
    timestamp = content.properties.get("timestamp")
    if not isinstance(timestamp, datetime):
        return None
    timestamp = timestamp if timestamp.tzinfo is not None else timestamp.replace(tzinfo=UTC)
    return timestamp if _EARLIEST <= timestamp <= _LATEST else None


def size_of(content: Content) -> int:
    """Bytes of its body, and about those of its headers."""
    return len(content.body) + sum(len(name) + len(str(value)) for name, value in content.headers.items())


def payload_of(rule: str, content: Content, *, whole: bool) -> dict[str, Any]:
    """What the event of a message carries.

    Args:
        rule: the rule, as namespace/name.
        content: the message.
        whole: False: say only how large it is.
    """
    payload: dict[str, Any] = {
        "server": content.server,
        "queue": content.queue,
        "exchange": _text(content.exchange),
        "routingKey": _text(content.routing_key),
        "redelivered": content.redelivered,
        "properties": {_camel(name): _plain(value)[0] for name, value in content.properties.items()},
        "rule": rule,
    }
    if content.identity is not None:
        payload["id"] = _text(content.identity.name)
    if not whole:
        return {**payload, "truncated": True, "bytes": size_of(content)}
    body = read_body(content.body)
    headers = {_text(name): _plain(value) for name, value in content.headers.items()}
    payload |= {
        "headers": {name: value for name, (value, _) in headers.items()},
        "encoding": body.encoding,
        "body": body.carried,
    }
    if encoded := [name for name, (_, binary) in headers.items() if binary]:
        payload["base64"] = encoded
    return payload


def content_of(message: Message) -> Content:
    """The content that the source has put into a message."""
    content: Content = message.content
    return content


def _plain(value: Any, depth: int = 0) -> tuple[Any, bool]:
    """A value of a header as JSON, and whether something in it was encoded as base64."""
    match value:
        case None | bool():
            return value, False
        case int():
            return (value if abs(value) < _LARGEST_INTEGER else str(value)), False
        case float():
            return (value if math.isfinite(value) else str(value)), False
        case str():
            return _text(value), False
        case bytes() | bytearray():
            return base64.b64encode(value).decode("ascii"), True
        case datetime():
            return value.isoformat(), False
        case Decimal():
            return str(value), False
    if depth < _DEEPEST and isinstance(value, Mapping):
        inner = {_text(str(name)): _plain(each, depth + 1) for name, each in value.items()}
        return {name: each for name, (each, _) in inner.items()}, any(binary for _, binary in inner.values())
    if depth < _DEEPEST and isinstance(value, list | tuple):
        items = [_plain(each, depth + 1) for each in value]
        return [each for each, _ in items], any(binary for _, binary in items)
    return _text(str(value)), False


def _text(value: str) -> str:
    return value.replace("\0", "\ufffd")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
