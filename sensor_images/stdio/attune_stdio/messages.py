"""What programs and their supervisor say to each other: one JSON object a line (docs/runners.md). Pure."""

import json
import re
from datetime import datetime
from typing import Any, Final

import msgspec

from attune_sensor import AckState, Rule
from attune_stdio.moments import MomentError, parse_moment

#: A line may have so many bytes. An event with more would be refused by the API.
MAX_LINE: Final = 1024 * 1024
#: More of an occurrence's name than this is not looked at: it is a name, not a document.
_MAX_OCCURRENCE: Final = 4096
_SAYABLE: Final = (AckState.ACTIVE, AckState.FAILING, AckState.REJECTED, AckState.COMPLETED)


class LineError(ValueError):
    """A line that is neither an event nor an ack. The text says why, in a few words."""


class RefusedEventError(LineError):
    """A line whose event is not taken; the SDK has counted it for its rule."""


class EventLine(msgspec.Struct, frozen=True, kw_only=True):
    """An event. ``rule`` is the uid or ``namespace/name`` of its rule; ``trigger_type`` stands for all rules of that type."""

    payload: dict[str, Any]
    occurrence: str | None = None
    occurred_at: datetime | None = None
    rule: str | None = None
    trigger_type: str | None = None
    traceparent: str = ""
    tracestate: str = ""


class AckLine(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a rule. ``rule`` is its uid or ``namespace/name``."""

    ack: AckState
    message: str = ""
    rule: str | None = None


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    payload: dict[str, Any] | None = None
    occurrence: str | int | float | None = None
    occurred_at: str | int | float | None = None
    rule: str | None = None
    trigger_type: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    ack: AckState | None = None
    message: str | None = None


_DECODER: Final = msgspec.json.Decoder(_Line)
_BOM: Final = b"\xef\xbb\xbf"
#: An escaped NUL, which PostgreSQL cannot store; not where the backslash is itself escaped.
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_NOT_JSON: Final = re.compile(rb"\b(NaN|Infinity)\b")


def repaired(record: bytes) -> bytes:
    """A record as UTF-8 without NUL and byte order mark. What is no UTF-8 becomes a replacement character: one raw byte in a
    message is no reason to lose the event.
    """
    record = record.removeprefix(_BOM)
    try:
        record.decode()
    except UnicodeDecodeError:
        record = record.decode("utf-8", "replace").encode()
    if b"\\u0000" in record:
        record = _NUL.sub(rb"\1\\ufffd", record)
    return record.replace(b"\0", "\ufffd".encode())


def decoded(record: bytes) -> Any:
    """A JSON value. NaN and Infinity, which Python prints, are null.

    Raises:
        LineError: it is something else.
    """
    try:
        return msgspec.json.decode(_without_nan(record))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LineError(str(error)) from None
    except RecursionError:
        raise LineError("nested too deeply") from None


def _without_nan(record: bytes) -> bytes:
    if not _NOT_JSON.search(record):
        return record
    try:
        return json.dumps(json.loads(record, parse_constant=lambda _name: None)).encode()
    except (ValueError, RecursionError):
        return record


def parse(text: bytes) -> EventLine | AckLine:
    """Read a line.

    Raises:
        LineError: it is something else.
    """
    text = repaired(text)
    if not text.startswith(b"{"):
        raise LineError("not a JSON object")
    try:
        line = _DECODER.decode(_without_nan(text))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LineError(str(error)) from None
    except RecursionError:
        raise LineError("nested too deeply") from None
    if line.ack is not None:
        return _ack(line, line.ack)
    if line.payload is None:
        raise LineError("it has neither a `payload` nor an `ack`")
    if line.message is not None:
        raise LineError("`message` goes with an `ack`, not with a `payload`")
    occurred_at = None
    if line.occurred_at is not None:
        try:
            occurred_at = parse_moment(line.occurred_at)
        except MomentError as error:
            raise LineError(f"`occurred_at`: {error}") from None
    # An empty one is a variable that was not set, or a message without an id: as if it were absent.
    occurrence = None if line.occurrence in (None, "") else str(line.occurrence)
    if occurrence is not None and len(occurrence) > _MAX_OCCURRENCE:
        raise LineError(f"`occurrence` has more than {_MAX_OCCURRENCE} characters")
    return EventLine(
        payload=line.payload,
        occurrence=occurrence,
        occurred_at=occurred_at,
        rule=line.rule,
        trigger_type=line.trigger_type,
        traceparent=line.traceparent or "",
        tracestate=line.tracestate or "",
    )


def _ack(line: _Line, ack: AckState) -> AckLine:
    if ack not in _SAYABLE:
        raise LineError(f"`ack` must be one of {', '.join(_SAYABLE)}")
    for name in ("payload", "occurrence", "occurred_at", "trigger_type", "traceparent", "tracestate"):
        if getattr(line, name) is not None:
            raise LineError(f"`{name}` does not go with an `ack`")
    return AckLine(ack=ack, message=line.message or "", rule=line.rule)


def rule_object(rule: Rule) -> dict[str, Any]:
    """A rule as programs see it."""
    state = rule.state
    return {
        "uid": state.uid,
        "namespace": state.namespace,
        "name": state.name,
        "generation": state.generation,
        "trigger_type": state.trigger_type,
        "parameters": state.parameters,
        "created_at": state.created_at,
    }


def lifecycle_line(kind: str, rule: Rule) -> bytes:
    """A message to a program about a rule: ``start``, ``update`` or ``stop``."""
    return msgspec.json.encode({"type": kind, "rule": rule_object(rule)}) + b"\n"
