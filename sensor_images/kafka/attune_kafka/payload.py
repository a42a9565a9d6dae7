"""From a record of a topic to an event. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from attune_kit.bodies import read_body, read_text

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Producers may set any time, in milliseconds since 1970. Others than these are nonsense.
_EARLIEST: Final = 1_000_000_000_000
_LATEST: Final = 7_000_000_000_000

Headers = Sequence[tuple[str, bytes | None]]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A record.

    Attributes:
        server: the server's name.
        topic: the topic.
        partition: the partition.
        offset: its place in the partition.
        timestamp: when, in milliseconds since 1970; None: the record does not say.
        key: its key, if it has one.
        headers: its headers in order; a name may occur again.
        value: its value; None: a tombstone.
    """

    server: str
    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    headers: Headers
    value: bytes | None


def occurrence_of(content: Content, *, topic_id: str, leader_epoch: int | None) -> str:
    """What names a record for ever.

    Offsets are given again in two cases: when a topic is deleted and created again, which has another id; and when a broker
    lost what it had confirmed, after which the partition's leader has a higher epoch (decision 124).

    Args:
        content: the record.
        topic_id: the topic's id; empty for brokers that give none.
        leader_epoch: the epoch of the leader that took the record, which is stored with it.
    """
    epoch = "" if leader_epoch is None else leader_epoch
    return f"{content.server}/{content.topic}/{topic_id}/{content.partition}/{epoch}/{content.offset}"


def occurred_at(content: Content) -> datetime | None:
    """When it was sent or stored, as the topic is set up; None when nobody says, or it is nonsense."""
    if content.timestamp is None or not _EARLIEST <= content.timestamp <= _LATEST:
        return None
    return _EPOCH + timedelta(milliseconds=content.timestamp)


def size_of(content: Content) -> int:
    """Bytes of its key, headers and value."""
    headers = sum(len(name) + len(value or b"") for name, value in content.headers) if content.headers else 0
    return len(content.key or b"") + len(content.value or b"") + headers


def header_of(content: Content, name: str) -> str:
    """The last value of a header as text; empty when there is none."""
    if not content.headers:
        return ""
    found = next((value for each, value in reversed(content.headers) if each == name), None)
    return (found or b"").decode("utf-8", "replace")


def payload_of(rule: str, content: Content, *, size: int, whole: bool) -> dict[str, Any]:
    """What the event of a record carries.

    Args:
        rule: the rule, as namespace/name.
        content: the record.
        size: its size in bytes.
        whole: False: say only how large it is.
    """
    payload: dict[str, Any] = {
        "server": content.server,
        "topic": content.topic,
        "partition": content.partition,
        "offset": content.offset,
        "rule": rule,
    }
    if not whole:
        return {**payload, "truncated": True, "bytes": size}
    encoded: list[str] = []
    if content.key is not None:
        payload["key"] = _carried("key", content.key, encoded)
    # Of a name that occurs again the last value counts, as with Kafka's own ``lastHeader``.
    headers = {_clean(name): value for name, value in content.headers}
    payload["headers"] = {name: _carried(f"headers.{name}", value, encoded) for name, value in headers.items()}
    if encoded:
        payload["base64"] = encoded
    if content.value is None:
        payload["tombstone"] = True
    body = read_body(content.value or b"")
    return {**payload, "encoding": body.encoding, "body": body.carried}


def _carried(place: str, value: bytes | None, encoded: list[str]) -> str | None:
    """Bytes as text, else as base64; then the place is noted."""
    if value is None:
        return None
    found = read_text(value)
    if found.encoding == "base64":
        encoded.append(place)
    text: str = found.carried
    return text


def _clean(text: str) -> str:
    """Text that JSON and the databases can hold."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
