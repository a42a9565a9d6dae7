"""What an action of kind ``emit`` makes of its part of the Rule, with results in place of expressions. Pure.

The runner does it, and ``attune rules test`` says it.
"""

import re
from typing import Any, Final, NamedTuple

import msgspec

from attune_contract import emitted
from attune_contract.actions import EMITTED_TRIGGER_TYPE, RunReason
from attune_contract.derived import DERIVED_TRIGGER_TYPES
from attune_contract.events import Event

_NAME: Final = re.compile(emitted.NAME_PATTERN.removesuffix("$") + r"\Z")
_SHOWN: Final = 80


class EmissionError(ValueError):
    """The action makes no event."""

    def __init__(self, message: str, *, reason: RunReason = RunReason.INVALID_EXPRESSION) -> None:
        super().__init__(message)
        self.reason = reason


class EmittedPart(NamedTuple):
    """What the action says of its event.

    Attributes:
        name: of the event.
        payload: a JSON object.
        hops: actions of kind ``emit`` behind it, this one included.
    """

    name: str
    payload: dict[str, Any]
    hops: int


class _Origin(msgspec.Struct):
    hops: int = 0


class _Payload(msgspec.Struct):
    emitted: _Origin = msgspec.field(default_factory=_Origin)
    pattern: _Origin = msgspec.field(default_factory=_Origin)


_PAYLOADS: Final = msgspec.json.Decoder(_Payload)


def hops_behind(event: Event) -> int:
    """So many actions of kind ``emit``, and events about events, lie behind an event."""
    derived = event.trigger_type in DERIVED_TRIGGER_TYPES
    if event.trigger_type != EMITTED_TRIGGER_TYPE and not derived:
        return 0
    try:
        found = _PAYLOADS.decode(event.payload)
        return max(0, found.pattern.hops if derived else found.emitted.hops)
    except msgspec.MsgspecError:  # of somebody else's Sensor that offers this trigger type
        return 0


def emitted_part(request: Any, event: Event) -> EmittedPart:
    """What an action says of its event.

    Args:
        request: the action's part ``emit``, with results in place of expressions.
        event: the event that it is carried out for.

    Raises:
        EmissionError: it makes no event.
    """
    hops = hops_behind(event) + 1
    if hops > emitted.MOST_HOPS:
        raise EmissionError(
            f"the event came through {emitted.MOST_HOPS} actions of kind emit, one after the other, and may not make another: "
            "Rules that emit what they take themselves, or one another, make a loop",
            reason=RunReason.TOO_MANY_HOPS,
        )
    name = request["name"]
    if not isinstance(name, str) or len(name) > emitted.MOST_NAME or not _NAME.match(name):
        shown = str(name)[:_SHOWN]
        raise EmissionError(f"{shown!r} is no name of an event: it has letters, digits, and - . _ between them")
    payload = request["payload"] if "payload" in request else msgspec.json.decode(event.payload)
    if not isinstance(payload, dict):
        raise EmissionError("the payload is no object")
    if (size := len(msgspec.json.encode(payload))) > emitted.MOST_PAYLOAD_BYTES:
        raise EmissionError(f"the payload has {size} bytes as JSON; at most {emitted.MOST_PAYLOAD_BYTES} are allowed")
    return EmittedPart(name, payload, hops)
