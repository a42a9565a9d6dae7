"""Events as they are shown: a line to read at a glance, and the whole payload below it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from attune_contract.events import Event

#: Characters of a payload in its line, and of one that is shown whole.
_GLANCE: Final = 160
_WHOLE: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEvent:
    """An event.

    Attributes:
        event: itself.
        glance: its payload in one line, cut where it gets long.
        payload: its payload, indented.
        cut: whether the payload is longer than that.
    """

    event: Event
    glance: str
    payload: str
    cut: bool


def shown_event(event: Event) -> ShownEvent:
    """An event as it is shown."""
    raw = bytes(event.payload)
    cut = len(raw) > _WHOLE
    text = raw[:_WHOLE].decode(errors="replace")
    whole = text if cut else msgspec.json.format(raw, indent=2).decode()
    return ShownEvent(event=event, glance=glance(raw), payload=whole, cut=cut)


def glance(raw: bytes) -> str:
    """A payload in one line: its fields as ``name=value``."""
    if len(raw) > _WHOLE:
        return f"{len(raw):,} bytes"
    value = msgspec.json.decode(raw)
    if not isinstance(value, dict):
        return _cut(_text(value))
    return _cut("  ".join(f"{name}={_text(field)}" for name, field in value.items()))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _cut(text: str) -> str:
    text = " ".join(text.split(" "))
    return text if len(text) <= _GLANCE else f"{text[: _GLANCE - 1]}…"


def newest_rate(events: Sequence[Event], *, now: datetime) -> str:
    """How often events come, from the newest ones; empty where there are too few to say, or none came lately.

    Args:
        events: newest first.
        now: the present time.
    """
    if len(events) < 3:
        return ""
    newest, oldest = (datetime.fromisoformat(events[place].occurred_at) for place in (0, -1))
    seconds = (newest - oldest).total_seconds()
    if seconds <= 0 or (now - newest).total_seconds() > 10 * seconds / (len(events) - 1) + 5:
        return ""
    each = (len(events) - 1) / seconds
    for unit, size in (("second", 1), ("minute", 60), ("hour", 3600), ("day", 86_400)):
        if each * size >= 0.95:
            return f"about {round(each * size):,} a {unit}"
    return "less than one a day"
