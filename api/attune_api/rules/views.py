"""Rules as readers see them: their state by the sensor's latest ack, and their history."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from attune_api.events.table import rfc3339
from attune_api.rules.cache import KnownRule
from attune_contract.messages import (
    HISTORY_CHANGED_AT,
    HISTORY_CHANGED_BY,
    HISTORY_REASON,
    HISTORY_SENSOR,
    Ack,
    RuleState,
)

#: Before a sensor has acked this generation; and while NATS cannot be asked.
WAITING: Final = "Waiting"
UNKNOWN: Final = "Unknown"


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as readers get it."""

    uid: str
    namespace: str
    name: str
    generation: int
    enabled: bool
    trigger_type: str
    sensor_ref: str
    created_at: str
    state: str
    message: str = ""
    state_at: str | None = None


def tell(rule: KnownRule, *, acks: Mapping[str, Ack] | None) -> RuleView:
    """A rule with its latest ack.

    Args:
        rule: the rule.
        acks: the latest acks by rule uid; None when they could not be read.
    """
    ack = None if acks is None else acks.get(rule.uid)
    current = ack is not None and ack.generation >= rule.generation
    created = datetime.fromtimestamp(rule.created_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return RuleView(
        uid=rule.uid,
        namespace=rule.namespace,
        name=rule.name,
        generation=rule.generation,
        enabled=rule.enabled,
        trigger_type=rule.trigger_type,
        sensor_ref=str(rule.sensor),
        created_at=created,
        state=UNKNOWN if acks is None else ack.state if ack is not None and current else WAITING,
        message=ack.message if ack is not None and current else "",
        state_at=rfc3339(ack.at.astimezone(UTC)) if ack is not None and current else None,
    )


class PastEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a rule, as readers get it."""

    type: str
    at: str
    rule_uid: str
    generation: int
    enabled: bool
    trigger_type: str
    parameters: dict[str, Any]
    sensor_ref: str
    changed_by: str
    changed_at: str
    reason: str


def past_event(state: RuleState, headers: Mapping[str, str]) -> PastEvent:
    """An entry of the stream ``ATTUNE_RULE_HISTORY``."""
    namespace, _, name = headers.get(HISTORY_SENSOR, "").partition(".")
    return PastEvent(
        type=headers.get("ce-type", "").rpartition(".")[2],
        at=headers.get("ce-time", ""),
        rule_uid=state.uid,
        generation=state.generation,
        enabled=state.enabled,
        trigger_type=state.trigger_type,
        parameters=state.parameters,
        # Names in Kubernetes have no underscore; in subjects it stands for a dot.
        sensor_ref=f"{namespace}/{name.replace('_', '.')}" if name else "",
        changed_by=headers.get(HISTORY_CHANGED_BY, ""),
        changed_at=headers.get(HISTORY_CHANGED_AT, ""),
        reason=headers.get(HISTORY_REASON, ""),
    )


def newest_first(entries: Sequence[PastEvent], *, limit: int) -> list[PastEvent]:
    """The last ``limit`` entries of those that are in the stream's order."""
    return list(reversed(entries[-limit:]))
