"""Sensors and Rules as lines of a list: what is kept of each while somebody looks at the console. Pure.

A line has some 300 bytes, so that 10,000 Rules take 3 MiB.
"""

import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from attune_contract.messages import PARTLY_REFUSED
from attune_contract.names import ActiveReason
from attune_contract.telling import (
    Object,
    actions_problem,
    condition,
    enabled,
    rule_advice,
    rule_note,
    rule_problem,
    sensor_advice,
    sensor_note,
    sensor_problem,
    trouble_since,
)

#: bad: it does not do what it should. wait: it may soon. good: it does. off: it does nothing, as it was asked to.
Tone = Literal["bad", "wait", "good", "off"]
TONES: Final[tuple[Tone, ...]] = ("bad", "wait", "good", "off")

_WORDS: Final = {
    ActiveReason.AWAITING_SENSOR: "Waiting",
    ActiveReason.SENSOR_PAUSED: "Paused",
    ActiveReason.NEVER_FIRES: "Never fires",
}


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A Sensor or a Rule in a list.

    Attributes:
        namespace: where it is.
        name: its name.
        tone: how it is.
        word: the same in a word or two.
        sentence: what is wrong, or worth knowing; empty if nothing is.
        advice: what to do about it; empty if nothing is to be done.
        kind: the Rule's trigger type; the Sensor's image.
        sensor: which Sensor serves the Rule; empty for a Sensor.
        since: since when it is bad, or waits (RFC 3339); empty for others, of which there are thousands.
        last_event_at: when it last had one, in seconds since 1970, which take less room than a text; 0 if never.
        next_at: when the Rule fires next, as far as its sensor says; when the Sensor's token expires. Likewise.
        bound: of a Sensor: how many Rules it serves.
        active: of a Sensor: how many of them are active.
        enabled: whether it is to work.
    """

    namespace: str
    name: str
    tone: Tone
    word: str
    sentence: str
    advice: str
    kind: str
    sensor: str
    since: str
    last_event_at: int = 0
    next_at: int = 0
    bound: int = 0
    active: int = 0
    enabled: bool = True

    @property
    def ref(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def last_event(self) -> str:
        """When it last had an event (RFC 3339); empty if never."""
        return _text(self.last_event_at)

    @property
    def next_time(self) -> str:
        """When it fires next, or its token expires (RFC 3339); empty if that is not known."""
        return _text(self.next_at)


def _seconds(time: object) -> int:
    return int(datetime.fromisoformat(str(time)).timestamp()) if time else 0


def _text(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}" if seconds else ""


def rule_line(body: Object) -> Line:
    """A Rule's line."""
    status = body.get("status") or {}
    tone, word = rule_tone(body)
    problem = rule_problem(body) or actions_problem(body)
    return Line(
        namespace=sys.intern(body["metadata"]["namespace"]),
        name=body["metadata"]["name"],
        tone=tone,
        word=word,
        sentence=_shared(problem or rule_note(body) or ""),
        advice=sys.intern(rule_advice(body)) if problem else "",
        kind=sys.intern(str(body["spec"]["trigger"]["type"])),
        sensor=sys.intern(str(status.get("sensor") or "")),
        since=trouble_since(body) if tone in ("bad", "wait") else "",
        last_event_at=_seconds(status.get("lastEventTime")),
        next_at=_seconds(status.get("nextTime")),
        enabled=enabled(body),
    )


def rule_tone(body: Object) -> tuple[Tone, str]:
    """How a Rule is, and the same in a word or two."""
    active = condition(body, "Active")
    reason = str(active.get("reason") or "")
    if rule_problem(body) is None:
        if active.get("status") == "True":
            return ("good", "Active") if actions_problem(body) is None else ("bad", "Actions fail")
        return "off", _WORDS.get(reason, reason or "Disabled")  # type: ignore[call-overload]
    if condition(body, "Accepted").get("status") == "False":
        return "bad", "Not accepted"
    if not active:
        return "wait", "Not seen yet"
    if active.get("status") != "True":
        return ("wait" if reason == ActiveReason.AWAITING_SENSOR else "bad"), _WORDS.get(reason, reason)  # type: ignore[call-overload]
    if PARTLY_REFUSED in str(active.get("message")):
        return "bad", "Partly refused"
    return ("bad", "Actions fail") if condition(body, "Ready").get("status") == "False" else ("wait", "Changing")


def sensor_line(body: Object) -> Line:
    """A Sensor's line."""
    status = body.get("status") or {}
    tone, word = sensor_tone(body)
    problem = sensor_problem(body)
    counts: dict[str, Any] = status.get("rules") or {}
    return Line(
        namespace=sys.intern(body["metadata"]["namespace"]),
        name=body["metadata"]["name"],
        tone=tone,
        word=word,
        sentence=_shared(problem or sensor_note(body) or ""),
        advice=sys.intern(sensor_advice(body)) if problem else "",
        kind=sys.intern(str(body["spec"].get("image") or "")),
        sensor="",
        since=trouble_since(body) if tone in ("bad", "wait") else "",
        last_event_at=_seconds(status.get("lastEventTime")),
        next_at=_seconds((status.get("token") or {}).get("expiresAt")),
        bound=int(counts.get("bound") or 0),
        active=int(counts.get("active") or 0),
        enabled=not body["spec"].get("paused"),
    )


def sensor_tone(body: Object) -> tuple[Tone, str]:
    """How a Sensor is, and the same in a word or two."""
    if body["spec"].get("paused"):
        return "off", "Paused"
    if sensor_problem(body) is None:
        return "good", "Ready"
    if not (body.get("status") or {}).get("conditions"):
        return "wait", "Not seen yet"
    if condition(body, "Ready").get("reason") == "Progressing":
        return "wait", "Starting"
    return "bad", "Not ready" if condition(body, "Ready").get("status") != "True" else "Has a problem"


def _shared(text: str) -> str:
    """The text, kept once for all lines that say the same: with a Sensor that is not ready, thousands do."""
    return sys.intern(text[:600])
