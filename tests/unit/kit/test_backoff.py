"""Waits between attempts grow, are bounded, and are spread."""

import pytest

from attune_kit.backoff import Backoff, spread

BACKOFF = Backoff(initial=0.5, maximum=10.0)


def test_each_wait_is_twice_the_last_until_the_maximum() -> None:
    assert [BACKOFF.delay(attempt=n, chance=0.999999) for n in range(1, 7)] == pytest.approx(
        [0.5, 1, 2, 4, 8, 10], rel=1e-5
    )


def test_jitter_takes_away_at_most_half() -> None:
    assert BACKOFF.delay(attempt=2, chance=0.0) == 0.5


@pytest.mark.parametrize("attempt", [0, -1, 1])
def test_the_first_wait_is_the_shortest(attempt: int) -> None:
    assert BACKOFF.delay(attempt=attempt, chance=0.0) == 0.25


def test_a_client_that_has_failed_for_weeks_still_waits_the_maximum() -> None:
    assert BACKOFF.delay(attempt=1_000_000, chance=0.0) == 5.0


def test_failures_are_counted_until_a_success() -> None:
    retries = BACKOFF.start(chance=lambda: 0.0)
    assert [retries.next_delay() for _ in range(3)] == [0.25, 0.5, 1.0]
    assert retries.failures == 3
    retries.reset()
    assert (retries.failures, retries.next_delay()) == (0, 0.25)


def test_periods_are_spread_by_a_tenth_to_both_sides() -> None:
    assert [spread(10.0, chance=chance) for chance in (0.0, 0.5)] == pytest.approx([9.0, 10.0])
    assert all(9.0 <= spread(10.0) < 11.0 for _ in range(100))
