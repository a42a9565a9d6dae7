"""How late timers are, as metrics."""

import pytest
from prometheus_client import CollectorRegistry

from attune_timer.lateness import Lateness

DUE = 1_772_360_000_000_000
SECOND = 1_000_000


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def within(registry: CollectorRegistry, bound: str) -> float | None:
    return registry.get_sample_value("attune_timer_lateness_seconds_bucket", {"le": bound})


def test_an_occurrence_is_counted_by_the_seconds_that_its_event_was_late(registry: CollectorRegistry) -> None:
    lateness = Lateness(registry)
    lateness.observe(due=DUE, reported=DUE + 400)
    lateness.observe(due=DUE, reported=DUE + 2 * SECOND)
    assert [within(registry, bound) for bound in ("0.001", "1.0", "2.5", "+Inf")] == [1, 1, 2, 2]
    assert registry.get_sample_value("attune_timer_lateness_seconds_sum") == pytest.approx(2.0004)


def test_a_clock_that_was_set_back_makes_nothing_negative(registry: CollectorRegistry) -> None:
    Lateness(registry).observe(due=DUE, reported=DUE - 3600 * SECOND)
    assert registry.get_sample_value("attune_timer_lateness_seconds_sum") == 0
    assert within(registry, "0.001") == 1


def test_what_was_missed_and_fired_later_is_not_lateness(registry: CollectorRegistry) -> None:
    lateness = Lateness(registry)
    lateness.observe(due=DUE, reported=DUE + 45 * SECOND)
    lateness.observe(due=DUE, reported=DUE + 46 * SECOND)
    assert registry.get_sample_value("attune_timer_lateness_seconds_count") == 1
    assert registry.get_sample_value("attune_timer_caught_up_occurrences_total") == 1
