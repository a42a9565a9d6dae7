"""From a message of a topic to an event. Pure."""

import base64
from typing import Any, Final
from urllib.parse import quote

import msgspec

from attune_kit.bodies import read_body
from attune_sensor import Message

#: No name is looked for in a larger body.
_LARGEST: Final = 4 * 1024 * 1024


class Identity(msgspec.Struct, frozen=True):
    """What a message's publisher calls it.

    Attributes:
        kind: where that stands: ``property`` or ``field``.
        name: the name.
    """

    kind: str
    name: str


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a topic.

    Attributes:
        server: the server's name.
        topic: the topic to which it was published.
        qos: 0: the broker delivers it once or never; 1: until it is acknowledged.
        retained: the broker had kept it for those who subscribe.
        redelivered: the broker has delivered it before.
        properties: the user properties; the first of each name.
        content_type: what its publisher says that the body is.
        response_topic: where its publisher waits for an answer.
        correlation: what its publisher wants to find in the answer.
        identity: its name; None when its publisher gave it none.
        body: its body.
    """

    server: str
    topic: str
    qos: int
    retained: bool
    redelivered: bool
    properties: dict[str, str]
    content_type: str | None
    response_topic: str | None
    correlation: bytes | None
    identity: Identity | None
    body: bytes


def identity_of(
    properties: dict[str, str], body: bytes, *, id_property: str | None, id_field: str | None
) -> Identity | None:
    """What its publisher calls a message; None when it has no name.

    Args:
        properties: its user properties.
        body: its body.
        id_property: the property that names it; None: none does.
        id_field: the path of the body's field that names it, if the property does not; None: none does.
    """
    if id_property is not None and (given := properties.get(id_property)):
        return Identity("property", given)
    name = None if id_field is None else _field(body, id_field)
    return None if name is None else Identity("field", name)


def occurrence_of(content: Content, *, delivery: str) -> str:
    """What names a message for ever; one without a name is named by its delivery (decision 125).

    Args:
        content: the message.
        delivery: a name that no other message has.
    """
    identity = content.identity or Identity("delivery", delivery)
    # Quoted, since topics and names may hold any character.
    return "/".join(quote(part, safe="") for part in (content.server, content.topic, identity.kind, identity.name))


def size_of(content: Content) -> int:
    """Bytes of its body, and about those of its properties."""
    properties = sum(len(name) + len(value) for name, value in content.properties.items())
    return len(content.body) + len(content.correlation or b"") + properties


def payload_of(rule: str, content: Content, *, whole: bool) -> dict[str, Any]:
    """What the event of a message carries.

    Args:
        rule: the rule, as namespace/name.
        content: the message.
        whole: False: say only how large it is.
    """
    payload: dict[str, Any] = {
        "server": content.server,
        "topic": _text(content.topic),
        "qos": content.qos,
        "retained": content.retained,
        "redelivered": content.redelivered,
        "rule": rule,
    }
    if content.identity is not None:
        payload["id"] = _text(content.identity.name)
    if not whole:
        return {**payload, "truncated": True, "bytes": size_of(content)}
    body = read_body(content.body)
    payload |= {
        "properties": {_text(name): _text(value) for name, value in content.properties.items()},
        "encoding": body.encoding,
        "body": body.carried,
    }
    if content.content_type is not None:
        payload["contentType"] = _text(content.content_type)
    if content.response_topic is not None:
        payload["responseTopic"] = _text(content.response_topic)
    if content.correlation is not None:
        payload["correlationData"] = base64.b64encode(content.correlation).decode("ascii")
    return payload


def content_of(message: Message) -> Content:
    """The content that the source has put into a message."""
    content: Content = message.content
    return content


def _field(body: bytes, path: str) -> str | None:
    """The text or the whole number at a path of a JSON body; None when there is none."""
    if len(body) > _LARGEST:
        return None
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return str(value).encode(errors="backslashreplace").decode()


def _text(value: str) -> str:
    return value.replace("\0", "\ufffd")
