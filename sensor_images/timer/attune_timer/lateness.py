"""How late timers are, as metrics."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from attune_timer.timer_heap import GRACE_AT_START

#: Upper bounds (seconds). On a quiet machine nearly all is in the first three; the chart's alert looks at what is above 1.
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MICROSECONDS: Final = 1_000_000


class Lateness:
    """Accounts for each occurrence that was reported.

    Lateness is what the timer adds: from when an occurrence was due, its jitter included, until its event was given to the SDK.
    The way to the API has metrics of its own. What was missed, and is fired because its Rule asks for that (``missed``), is
    late by hours and no fault of the timer; it is only counted.

    Args:
        registry: where the metrics are.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "attune_timer_lateness_seconds",
            "Seconds from when an occurrence was due until its event was reported",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._caught_up = Counter(
            "attune_timer_caught_up_occurrences", "Occurrences that were missed and fired later", registry=registry
        )

    def observe(self, *, due: int, reported: int) -> None:
        """Account for one occurrence; both times are in microseconds since 1970.

        A clock that was set back in between makes it no earlier than due.
        """
        late = max(0, reported - due)
        if late > GRACE_AT_START:
            self._caught_up.inc()
        else:
            self._seconds.observe(late / _MICROSECONDS)
