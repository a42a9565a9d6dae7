"""What the API counts (Prometheus)."""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import generate_latest

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """All metrics, in a registry of their own, so that two apps in one process (tests) do not share them."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.requests = Counter(
            "attune_api_requests", "Answered requests.", ["method", "route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "attune_api_request_seconds", "From request to answer.", ["route"], buckets=_FAST, registry=registry
        )
        events = Counter("attune_api_events", "Events by what became of them.", ["status"], registry=registry)
        self.events = {status: events.labels(status) for status in ("stored", "duplicate", "refused", "deferred")}
        self._over_quota = Counter(
            "attune_api_quota_deferred",
            "Events that were not taken because their namespace is over its quota, by namespace.",
            ["rule_namespace"],
            registry=registry,
        )
        self.waiting = Gauge("attune_api_events_waiting", "Events that wait for the database.", registry=registry)
        self.group_size = Histogram(
            "attune_api_group_commit_events",
            "Events that shared a transaction.",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "attune_api_group_commit_seconds", "How long a transaction took.", buckets=_FAST, registry=registry
        )
        self.commits_failed = Counter("attune_api_group_commits_failed", "Transactions that failed.", registry=registry)
        self.storage_writable = Gauge(
            "attune_api_storage_writable", "1 while events can be stored; 0 while not.", registry=registry
        )
        self.tokens_refused = Counter(
            "attune_api_tokens_refused", "Requests whose token was refused.", ["reason"], registry=registry
        )
        self.tokens_minted = Counter("attune_api_tokens_minted", "Sensor tokens handed out.", registry=registry)
        self.outbox_published = Counter(
            "attune_api_outbox_published", "Events that JetStream acknowledged.", registry=registry
        )
        self.newest_seq = Gauge(
            "attune_api_events_newest_seq",
            "seq of the newest stored event; as far as outbox_position is behind, events wait for NATS.",
            registry=registry,
        )
        self.outbox_position = Gauge(
            "attune_api_outbox_position", "seq up to which events were passed on.", registry=registry
        )
        self.stream_readers = Gauge("attune_api_stream_readers", "Readers that follow events.", registry=registry)
        self.stream_cut_off = Counter(
            "attune_api_stream_readers_cut_off", "Readers that took nothing for too long.", registry=registry
        )
        self.stream_catch_ups = Counter(
            "attune_api_stream_catch_ups", "Pages read for readers that were behind.", registry=registry
        )
        deleted = Counter("attune_api_retention_deleted", "Events deleted, by what for.", ["reason"], registry=registry)
        self.retention_deleted = {reason: deleted.labels(reason) for reason in ("age", "count", "quota")}
        self._quota_deleted = Counter(
            "attune_api_quota_deleted",
            "Events that were deleted because their namespace has more than it may, by namespace.",
            ["rule_namespace"],
            registry=registry,
        )
        self.retention_swept = Gauge(
            "attune_api_retention_swept_timestamp_seconds", "When the last sweep ended.", registry=registry
        )
        runs = Counter("attune_api_runs", "Reports about runs by what became of them.", ["status"], registry=registry)
        self.runs = {status: runs.labels(status) for status in ("stored", "stale", "refused")}
        self.runs_queued = Counter(
            "attune_api_runs_queued", "Runs that somebody asked for.", ["why"], registry=registry
        )
        deleted = Counter("attune_api_runs_deleted", "Runs deleted, by what for.", ["reason"], registry=registry)
        self.runs_deleted = {reason: deleted.labels(reason) for reason in ("age", "count")}
        self.run_stream_readers = Gauge("attune_api_run_stream_readers", "Readers that follow runs.", registry=registry)
        self.run_stream_catch_ups = Counter(
            "attune_api_run_stream_catch_ups", "Pages of runs read for readers that were behind.", registry=registry
        )
        self.nats_connected = Gauge("attune_api_nats_connected", "1 while connected to NATS.", registry=registry)
        self.identities_known = Gauge(
            "attune_api_sensor_identities", "Sensors whose accepted tokens are known.", registry=registry
        )

        self.payloads_unchecked = Counter(
            "attune_api_payloads_unchecked",
            "Events taken without a check of their payload.",
            ["reason"],
            registry=registry,
        )
        self.rules_known = Gauge("attune_api_rules", "Rules that are known from NATS.", registry=registry)

        self._by_answer: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered. ``route`` is a pattern, never a path: there are endless paths."""
        found = self._by_answer.get((method, route, status))
        if found is None:
            found = self.requests.labels(method, route, status), self.request_seconds.labels(route)
            self._by_answer[method, route, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def deferred(self, namespace: str, events: int) -> None:
        """Count events of a namespace that is over its quota."""
        self.events["deferred"].inc(events)
        self._over_quota.labels(namespace).inc(events)

    def quota_deleted(self, namespace: str, events: int) -> None:
        """Count stored events of a namespace that had too many."""
        self._quota_deleted.labels(namespace).inc(events)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
