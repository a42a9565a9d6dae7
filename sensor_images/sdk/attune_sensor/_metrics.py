"""Prometheus metrics of one sensor, in a registry of their own so that several sensors fit into one process (tests)."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What a sensor counts. Names begin with ``attune_sensor_``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.rules = Gauge(
            "attune_sensor_rules", "Rules by what the sensor does with them", ["state"], registry=self.registry
        )
        self.events = Counter(
            "attune_sensor_events",
            "Events by what became of them: emitted, stored, duplicate, refused, dropped, spooled",
            ["result"],
            registry=self.registry,
        )
        for result in ("emitted", "stored", "duplicate", "refused", "dropped", "spooled"):
            self.events.labels(result)
        self.queued_events = Gauge(
            "attune_sensor_queued_events", "Events in memory that are not delivered yet", registry=self.registry
        )
        self.over_quota_events = Gauge(
            "attune_sensor_over_quota_events",
            "Events that wait because their namespace is over its quota",
            registry=self.registry,
        )
        self.spool_bytes = Gauge("attune_sensor_spool_bytes", "Size of the spool on disk", registry=self.registry)
        self.spool_events = Gauge("attune_sensor_spool_events", "Events in the spool", registry=self.registry)
        self.spool_errors = Counter(
            "attune_sensor_spool_errors", "Failed reads and writes of the spool", registry=self.registry
        )
        self.resyncs = Counter(
            "attune_sensor_rule_resyncs",
            "Complete readings of the rule state, by reason",
            ["reason"],
            registry=self.registry,
        )
        self.malformed_rules = Counter(
            "attune_sensor_malformed_rule_messages", "Rule messages that could not be read", registry=self.registry
        )
        self.rule_failures = Counter(
            "attune_sensor_rule_failures",
            "Failed attempts to start, update or stop a rule",
            registry=self.registry,
        )
        self.acks = Counter("attune_sensor_acks", "Acks confirmed by NATS", registry=self.registry)
        self.api_latency = Histogram(
            "attune_sensor_api_request_seconds",
            "Time until the API answered a request, by status code (or error)",
            ["code"],
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.token_expiry = Gauge(
            "attune_sensor_token_expiry_timestamp_seconds",
            "When the token that is in the file expires (Unix time; 0 without one)",
            registry=self.registry,
        )
        self.nats_connected = Gauge("attune_sensor_nats_connected", "1 while connected to NATS", registry=self.registry)
        self.snapshot_taken = Gauge(
            "attune_sensor_rule_snapshot_timestamp_seconds",
            "When the rule state was last read completely (Unix time; 0 before)",
            registry=self.registry,
        )
