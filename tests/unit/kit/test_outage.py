"""An outage is logged once, and so is its end."""

from typing import Any

import pytest

from attune_kit.outage import Outage


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
