"""How often new events are looked for."""

import pytest

from attune_operator.rules.last_events import pause_after


@pytest.mark.parametrize(
    ("read", "pause"),
    [(0, 0.8), (1, 0.8), (80, 0.8), (200, 2.0), (1_000, 10.0), (100_000, 10.0)],
)
def test_the_more_there_was_to_read_the_longer_is_the_pause(read: int, pause: float) -> None:
    assert pause_after(read, shortest=0.8) == pause


def test_a_longer_pause_that_was_asked_for_is_kept() -> None:
    assert pause_after(0, shortest=60.0) == pause_after(100_000, shortest=60.0) == 60.0
