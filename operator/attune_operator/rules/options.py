"""Options of the Rule side."""

from dataclasses import dataclass
from typing import Final

from attune_contract.quotas import Quotas
from attune_contract.subjects import PLAIN_API

_NO_QUOTAS: Final = Quotas()


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesOptions:
    """Times are seconds, rates are per second.

    Attributes:
        sweep_interval: between complete lists from Kubernetes.
        check_interval: between checks of whether somebody else changed the rule stream.
        rules_api: prefix of the JetStream API that reaches the rule stream.
        trusted_namespaces: those whose Sensors may serve Rules of all others; None: every one's.
        quotas: how many Rules Sensors serve.
        sensor_namespaces: those where Sensors run; empty means all.
        stream_replicas: replicas of each stream; 3 for a NATS cluster.
        max_in_flight: rule messages that wait for NATS's answer.
        tombstone_ttl: how long a tombstone stays for readers that are away; they compare whole snapshots in any case.
        history_per_rule: lifecycle events that are kept of each Rule.
        history_max_age: how long they are kept.
        status_rate: status writes.
        status_concurrency: status writes at a time.
        heartbeat: between NATS's heartbeats while there is nothing to deliver.
        snapshot_timeout: for reading a whole stream.
        acks_grace: how long statuses stay as they are after the ack stream was found empty, for sensors to ack again.
        believe_own_write: how long a status that we wrote is believed more than events, which may be older.
        last_event_interval: between checks for new events, while few come.
        times_rate: writes of times and numbers (lastEventTime, nextTime, runs) of all Rules.
        times_sensor_rate: the same, of one Sensor's Rules.
        summary_interval: between two notices of changed summaries.
        backoff_limit: longest wait before another attempt to reach NATS or Kubernetes.
    """

    sweep_interval: float = 60.0
    check_interval: float = 10.0
    rules_api: str = PLAIN_API
    trusted_namespaces: frozenset[str] | None = None
    quotas: Quotas = _NO_QUOTAS
    sensor_namespaces: frozenset[str] = frozenset()
    stream_replicas: int = 1
    max_in_flight: int = 256
    tombstone_ttl: float = 3600.0
    history_per_rule: int = 50
    history_max_age: float = 90 * 86400.0
    status_rate: float = 200.0
    status_concurrency: int = 8
    heartbeat: float = 5.0
    snapshot_timeout: float = 120.0
    acks_grace: float = 15.0
    believe_own_write: float = 10.0
    last_event_interval: float = 0.5
    times_rate: float = 4.0
    times_sensor_rate: float = 1.0
    summary_interval: float = 0.2
    backoff_limit: float = 15.0
