"""What the runner counts (``/metrics``)."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from attune_contract.actions import ActionKind, RunState

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one runner, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self.events = Counter("attune_actions_events", "Events that were handled", ["outcome"], registry=registry)
        self.runs = Counter("attune_actions_runs", "Runs that ended", ["kind", "state"], registry=registry)
        # Shown as 0 from the beginning: Prometheus sees no increase in a series that begins with 1.
        for kind in ActionKind:
            for state in (RunState.SUCCEEDED, RunState.FAILED, RunState.SKIPPED):
                self.runs.labels(kind.value, state.value)
        self.attempts = Counter("attune_actions_attempts", "Attempts", ["kind", "outcome"], registry=registry)
        self.seconds = Histogram(
            "attune_actions_attempt_seconds", "How long attempts took", ["kind"], buckets=_SECONDS, registry=registry
        )
        self.delay = Histogram(
            "attune_actions_delay_seconds",
            "From an event's being in the stream to the beginning of its runs",
            buckets=_SECONDS,
            registry=registry,
        )
        self.queued = Counter("attune_actions_queued_runs", "Runs that found no free slot", registry=registry)
        self.caught_up = Counter(
            "attune_actions_caught_up_events", "Events that were taken from the API", registry=registry
        )
        self.under_way = Gauge("attune_actions_under_way_runs", "Runs whose attempt goes on", registry=registry)
        self.in_hand = Gauge("attune_actions_in_hand_messages", "Messages in hand", ["stream"], registry=registry)
        self.rules = Gauge("attune_actions_known_rules", "Rules that are known", registry=registry)
        self.open_circuits = Gauge("attune_actions_open_circuits", "Targets that get no requests", registry=registry)
        self.connected = Gauge(
            "attune_actions_nats_connected", "Whether there is a connection to NATS", registry=registry
        )
