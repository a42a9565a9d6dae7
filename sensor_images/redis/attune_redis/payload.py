"""From an entry of a stream to an event. Pure."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attune_kit.bodies import read_body
from attune_redis.parameters import Parameters

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Ids that a program chose itself, like 1-1, are no times. Those that Redis makes are milliseconds since 1970.
_EARLIEST: Final = 1_000_000_000_000
_LATEST: Final = 7_000_000_000_000

Fields = Mapping[bytes, bytes]


def occurred_at(entry: str) -> datetime | None:
    """When an entry was added, by its id; None when the id is no time."""
    milliseconds = int(entry.partition("-")[0])
    if not _EARLIEST <= milliseconds <= _LATEST:
        return None
    return _EPOCH + timedelta(milliseconds=milliseconds)


def size_of(fields: Fields | None) -> int:
    """Bytes of an entry's names and values."""
    return sum(len(name) + len(value) for name, value in (fields or {}).items())


def payload_of(rule: str, parameters: Parameters, *, entry: str, fields: Fields | None, whole: bool) -> dict[str, Any]:
    """What the event of an entry carries.

    Args:
        rule: the rule, as namespace/name.
        parameters: what the rule asks for.
        entry: the entry's id.
        fields: its fields; None when the stream was trimmed before the entry was read again.
        whole: False: say only how large it is.
    """
    payload: dict[str, Any] = {
        "server": parameters.server,
        "stream": parameters.stream,
        "id": entry,
        "rule": rule,
    }
    if fields is None:
        return {**payload, "trimmed": True}
    if not whole:
        return {**payload, "truncated": True, "bytes": size_of(fields)}
    rest = dict(fields)
    if parameters.body is not None:
        body = read_body(rest.pop(parameters.body.encode(), b""))
        payload |= {"encoding": body.encoding, "body": body.carried}
    texts: dict[str, str] = {}
    encoded: list[str] = []
    for name, value in rest.items():
        shown = _name(name)
        text = _text(value)
        if text is None:
            encoded.append(shown)
            text = base64.b64encode(value).decode("ascii")
        texts[shown] = text
    payload["fields"] = texts
    if encoded:
        payload["base64"] = encoded
    return payload


def _text(value: bytes) -> str | None:
    if b"\0" in value:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _name(name: bytes) -> str:
    return name.decode("utf-8", "replace").replace("\0", "\ufffd")
