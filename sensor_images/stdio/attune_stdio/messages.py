"""What programs and their supervisor say to each other: one JSON object a line (docs/runners.md). Pure."""

from datetime import datetime
from typing import Any, Final

import msgspec

from attune_sensor import AckState, Rule

#: A line may have so many bytes. An event with more would be refused by the API.
MAX_LINE: Final = 1024 * 1024
#: More of an occurrence's name than this is not looked at: it is a name, not a document.
_MAX_OCCURRENCE: Final = 4096
_SAYABLE: Final = (AckState.ACTIVE, AckState.FAILING, AckState.REJECTED, AckState.COMPLETED)


class LineError(ValueError):
    """A line that is neither an event nor an ack. The text says why, in a few words."""


class EventLine(msgspec.Struct, frozen=True, kw_only=True):
    """An event. ``rule`` is the uid or ``namespace/name`` of its rule; ``trigger_type`` stands for all rules of that type."""

    payload: dict[str, Any]
    occurrence: str | None = None
    occurred_at: datetime | None = None
    rule: str | None = None
    trigger_type: str | None = None


class AckLine(msgspec.Struct, frozen=True, kw_only=True):
    """How a rule fares. ``rule`` is the uid or ``namespace/name`` of it."""

    ack: AckState
    message: str = ""
    rule: str | None = None


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    payload: dict[str, Any] | None = None
    occurrence: str | int | None = None
    occurred_at: datetime | None = None
    rule: str | None = None
    trigger_type: str | None = None
    ack: AckState | None = None
    message: str | None = None


_DECODER: Final = msgspec.json.Decoder(_Line)


def parse(text: bytes) -> EventLine | AckLine:
    """Read a line.

    Raises:
        LineError: it is something else.
    """
    if not text.startswith(b"{"):
        raise LineError("not a JSON object")
    try:
        line = _DECODER.decode(text)
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
    if line.occurred_at is not None and line.occurred_at.tzinfo is None:
        raise LineError("`occurred_at` has no zone; write it like 2026-11-23T12:00:00Z")
    occurrence = None if line.occurrence is None else str(line.occurrence)
    if occurrence is not None and len(occurrence) > _MAX_OCCURRENCE:
        raise LineError(f"`occurrence` has more than {_MAX_OCCURRENCE} characters")
    return EventLine(
        payload=line.payload,
        occurrence=occurrence,
        occurred_at=line.occurred_at,
        rule=line.rule,
        trigger_type=line.trigger_type,
    )


def _ack(line: _Line, ack: AckState) -> AckLine:
    if ack not in _SAYABLE:
        raise LineError(f"`ack` must be one of {', '.join(_SAYABLE)}")
    for name in ("payload", "occurrence", "occurred_at", "trigger_type"):
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
    """What a program is told of a rule: ``start``, ``update`` or ``stop``."""
    return msgspec.json.encode({"type": kind, "rule": rule_object(rule)}) + b"\n"
