"""Prometheus metrics of the Rule side."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from attune_contract.messages import RuleEventType

RULES: Final = Gauge("attune_rules", "Rules by the reason of their Active condition.", ["reason"])
_PUBLISHED: Final = Counter(
    "attune_rule_messages_total", "Messages written to the rule stream, by CloudEvents type.", ["type"]
)
PUBLISHED: Final = {kind: _PUBLISHED.labels(kind) for kind in RuleEventType}
CONFLICTS: Final = Counter(
    "attune_rule_conflicts_total", "Writes to the rule stream that lost because somebody else had written."
)
PUBLISH_FAILURES: Final = Counter("attune_rule_publish_failures_total", "Messages that the rule stream refused.")
ACTIONS_PUBLISHED: Final = Counter("attune_actions_messages_total", "Messages about Rules' actions that were written.")
OVER_QUOTA: Final = Gauge(
    "attune_rules_over_quota", "Rules that are not accepted because their Sensor serves as many as it may."
)
CONTESTED: Final = Gauge("attune_rules_contested", "Rules whose subject on the stream somebody else wrote last.")
SESSIONS: Final = Counter(
    "attune_rule_stream_sessions_total", "Connections to NATS after which everything was compared again."
)
CONNECTED: Final = Gauge("attune_rule_stream_connected", "1 while the rule stream is read and written.")
COMPARE_SECONDS: Final = Histogram(
    "attune_rules_list_seconds",
    "How long a complete list of Rules, Sensors and namespaces took, and applying it.",
    buckets=(0.01, 0.05, 0.2, 1, 5, 20, 60),
)
PUBLISH_SECONDS: Final = Histogram(
    "attune_rule_publish_seconds",
    "From seeing that a Rule changed to the rule stream having it.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
)
ACK_SECONDS: Final = Histogram(
    "attune_rule_ack_seconds",
    "From a generation being on the rule stream to the sensor's ack.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30, 300),
)
ACKS: Final = Counter("attune_rule_acks_total", "Acks of sensors by state; invalid ones are ignored.", ["state"])
STATUS_WRITES: Final = Counter("attune_rule_status_writes_total", "Writes of Rules' statuses by outcome.", ["outcome"])
STATUS_WAITING: Final = Gauge("attune_rule_status_waiting", "Rules whose status waits to be written.")
HISTORY_DROPPED: Final = Counter(
    "attune_rule_history_dropped_total", "Lifecycle events that could not be written to the history."
)
ERRORS: Final = Counter("attune_rule_errors_total", "Rules whose handling failed unexpectedly and is tried again.")
