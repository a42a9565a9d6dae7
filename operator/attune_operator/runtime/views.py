"""What the Sensor side and the Rule side show each other. Each depends on these values only, not on the other side."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from attune_contract import names
from attune_contract.identity import SensorRef


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorRuntime:
    """The state of a Sensor's pods: how many are ready, and if none is, why (a sentence for people).

    ``instances`` are the names of the pods whose program runs, ready or not; None if they are not known.
    """

    ready_replicas: int
    message: str = ""
    instances: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """The content of the condition Healthy. ``healthy`` is None if it is not known."""

    healthy: bool | None = None
    reason: str = names.HealthReason.NOT_REPORTED
    message: str = "The sensor has not reported its health yet."


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSummary:
    """What the Rule side knows about one Sensor's Rules; becomes ``status.rules`` and the condition RulesSynced.

    ``synced`` is None until the first comparison with the stream is complete: the condition is then Unknown.
    ``reason`` is one CamelCase word, ``message`` a sentence. ``health`` is None while it cannot be judged: the
    condition Healthy then stays as it was.
    """

    bound: int = 0
    active: int = 0
    rejected: int = 0
    synced: bool | None = None
    reason: str = "Pending"
    message: str = "The rules have not been compared with the stream yet."
    last_event_time: datetime | None = None
    health: HealthView | None = None


class RuleView(Protocol):
    """What the Sensor side sees of the Rule side, and shows it."""

    def observe_runtime(self, ref: SensorRef, runtime: SensorRuntime) -> None:
        """A Sensor's pods became ready or stopped being so."""

    def summary(self, ref: SensorRef) -> RuleSummary:
        """Return what is known about a Sensor's Rules now."""
        ...


#: Called with a Sensor whose summary may have changed. Cheap, called in the event loop.
SummaryListener = Callable[[SensorRef], None]
