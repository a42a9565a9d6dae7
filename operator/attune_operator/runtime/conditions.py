"""Conditions, as Kubernetes' API conventions define them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

ConditionStatus = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition without its times. ``warn``: somebody should act, because it does not pass by itself."""

    status: ConditionStatus
    reason: str
    message: str
    warn: bool = False


def kubernetes_time(time: datetime) -> str:
    """Format a time like ``metav1.Time``: UTC, whole seconds (RFC 3339)."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
