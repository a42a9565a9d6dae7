"""What the supervisor counts, among the sensor's metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge

LINES = ("event", "ack", "skipped", "malformed", "too_long", "late")
EXITS = ("success", "failure", "signal", "stopped", "killed")


class StdioMetrics:
    """Metrics whose names begin with ``attune_stdio_``.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.processes = Gauge("attune_stdio_processes", "Processes that run", registry=registry)
        self.starts = Counter("attune_stdio_starts", "Processes that were started", registry=registry)
        self.exits = Counter(
            "attune_stdio_exits",
            "Processes that ended: with status 0 (success), another (failure), by a signal, after being told to stop "
            "(stopped), by SIGKILL after they did not heed that (killed)",
            ["how"],
            registry=registry,
        )
        self.lines = Counter(
            "attune_stdio_lines",
            "Records on standard output: events, acks, not wanted (skipped), malformed, too long, after the rule's stop (late)",
            ["result"],
            registry=registry,
        )
        self.held_up = Counter(
            "attune_stdio_held_up_seconds",
            "Time for which output was not read because it came too fast",
            registry=registry,
        )
        for result in LINES:
            self.lines.labels(result)
        for how in EXITS:
            self.exits.labels(how)
