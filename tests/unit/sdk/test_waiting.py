"""How long to wait, and what is said about it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune_sensor.backoff import Backoff
from attune_sensor.outage import Outage

BACKOFF = Backoff(initial=0.25, maximum=15.0)


@given(attempt=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_wait_is_bounded_and_never_nothing(attempt: int, chance: float) -> None:
    assert 0.125 <= BACKOFF.delay(attempt=attempt, chance=chance) < 15.0 + 1e-9


def test_wait_doubles_up_to_the_maximum() -> None:
    full = [BACKOFF.delay(attempt=attempt, chance=1.0) for attempt in range(1, 9)]
    assert full == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert BACKOFF.delay(attempt=3, chance=0.0) == 0.5


class Log:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = info


def test_outage_is_said_once_and_its_end_once() -> None:
    log, time = Log(), 100.0
    outage = Outage(log=log, name="api", clock=lambda: time)
    outage.recovered()
    for _ in range(5):
        outage.failed("connection", "refused")
    outage.failed("http_503", "busy")
    outage.failed("connection", "refused")
    time = 160.0
    outage.recovered()
    outage.recovered()
    assert [event for event, _ in log.lines] == ["api_unavailable", "api_unavailable", "api_recovered"]
    assert log.lines[-1][1] == {"after_seconds": pytest.approx(60.0)}


def test_next_outage_is_said_again() -> None:
    log = Log()
    outage = Outage(log=log, name="api")
    for _ in range(2):
        outage.failed("connection", "refused")
        outage.recovered()
    assert len(log.lines) == 4
