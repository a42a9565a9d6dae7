"""From a message of a stream to an event. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from attune_kit.bodies import read_body
from attune_sensor import Message


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a stream.

    Attributes:
        server: the server's name.
        stream: the stream.
        subject: the subject to which it was sent.
        sequence: its place in the stream.
        headers: its headers.
        data: its body.
    """

    server: str
    stream: str
    subject: str
    sequence: int
    headers: Mapping[str, str]
    data: bytes


def payload_of(rule: str, message: Message, *, whole: bool) -> dict[str, Any]:
    """What the event of a message carries.

    Args:
        rule: the rule, as namespace/name.
        message: the message.
        whole: False: say only how large it is.
    """
    content: Content = message.content
    payload: dict[str, Any] = {
        "server": content.server,
        "stream": content.stream,
        "subject": _clean(content.subject),
        "sequence": content.sequence,
        "rule": rule,
    }
    if not whole:
        return {**payload, "truncated": True, "bytes": message.size}
    body = read_body(content.data)
    headers = {_clean(name): _clean(value) for name, value in content.headers.items()}
    return {**payload, "headers": headers, "encoding": body.encoding, "body": body.carried}


def _clean(text: str) -> str:
    """Text that JSON and the databases can hold."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
