"""Prometheus metrics of the Sensor side and of the process. The Rule side's are in ``rules/metrics.py``."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

SENSORS: Final = Gauge("attune_sensors", "Sensors by the state of their Ready condition.", ["ready"])
TOKEN_EXPIRY: Final = Gauge(
    "attune_token_expiry_timestamp_seconds",
    "When the token in a Sensor's Secret expires, in seconds since the epoch.",
    ["namespace", "sensor"],
)
TOKENS_ISSUED: Final = Counter("attune_tokens_issued_total", "Tokens that were written to Secrets.", ["reason"])
TOKEN_FAILURES: Final = Counter("attune_token_failures_total", "Attempts to renew a token that failed.")
SIGNING_KEYS: Final = Gauge("attune_signing_keys", "Signing keys by state.", ["state"])

FOREIGN_NAMESPACES: Final = Gauge(
    "attune_foreign_namespaces", "Watched namespaces that another installation looks after, so that this one keeps off."
)

RECONCILES: Final = Counter("attune_reconciles_total", "Reconciliations of Sensors by outcome.", ["outcome"])
RECONCILE_SECONDS: Final = Histogram(
    "attune_reconcile_seconds",
    "How long one reconciliation of a Sensor takes.",
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60),
)
QUEUED: Final = Gauge("attune_reconcile_queue", "Sensors that wait to be reconciled.")
WRITES: Final = Counter(
    "attune_kubernetes_writes_total", "Objects that were written, by kind and why.", ["kind", "why"]
)
REQUESTS: Final = Counter(
    "attune_kubernetes_requests_total", "Calls to Kubernetes by verb and status.", ["verb", "status"]
)
EVENTS_DROPPED: Final = Counter(
    "attune_events_dropped_total", "Kubernetes Events that were cut or could not be written."
)
SWEEP_SECONDS: Final = Gauge("attune_sweep_seconds", "How long the latest complete listing took.")
LAST_SWEEP: Final = Gauge("attune_last_sweep_timestamp_seconds", "When the latest complete listing ended.")
LOOP_LAG: Final = Gauge("attune_loop_lag_seconds", "How late the event loop woke a timer when last measured.")
IDENTITIES_PUBLISHED: Final = Counter(
    "attune_identities_published_total", "Times that it was published which tokens of a Sensor are accepted."
)
