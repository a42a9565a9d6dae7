"""Quotas of events, with a clock of the test's own."""

import pytest

from attune_api.events.ingest.quotas import BURST, EventQuotas, whole_seconds
from attune_contract.quotas import NamespaceQuotas, Quotas


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_without_limits_nobody_waits() -> None:
    quotas = EventQuotas(Quotas(), clock=Clock())
    quotas.charge({"shop": 1_000_000})
    assert not quotas.active
    assert quotas.wait("shop") == 0


def test_a_namespace_waits_until_it_owes_nothing_and_nobody_else_does() -> None:
    clock = Clock()
    quotas = EventQuotas(Quotas(events_per_second=10), clock=clock)
    quotas.charge({"shop": 10 * int(BURST) - 1})
    assert quotas.wait("shop") == 0, "one is left"
    quotas.charge({"shop": 101})
    assert quotas.wait("shop") == pytest.approx(10.1), "it owes 100, and may report again with one"
    assert quotas.wait("bank") == 0
    clock.now += 10.2
    assert quotas.wait("shop") == 0


def test_on_average_it_is_the_quota() -> None:
    clock = Clock()
    quotas = EventQuotas(Quotas(events_per_second=50), clock=clock)
    taken = 0
    for _ in range(100_000):
        clock.now += 0.01
        if quotas.wait("shop") == 0:
            quotas.charge({"shop": 173})
            taken += 173
    assert taken == pytest.approx(50 * 1000 + 50 * BURST, abs=2 * 173)


def test_a_quiet_namespace_saves_no_more_than_a_burst() -> None:
    clock = Clock()
    quotas = EventQuotas(Quotas(events_per_second=10), clock=clock)
    quotas.charge({"shop": 1})
    clock.now += 1e6
    quotas.charge({"shop": int(10 * BURST)})
    assert quotas.wait("shop") > 0


def test_single_namespaces_have_their_own() -> None:
    quotas = EventQuotas(
        Quotas(
            events_per_second=10,
            namespaces={
                "big": NamespaceQuotas(events_per_second=1000),
                "free": NamespaceQuotas(events_per_second=0),
                "other": NamespaceQuotas(stored_events=5),
            },
        ),
        clock=Clock(),
    )
    quotas.charge({"big": 9000, "free": 10**9, "other": 101})
    assert [quotas.wait(each) > 0 for each in ("big", "free", "other")] == [False, False, True]
    assert "quota of 10 events a second" in quotas.reason("other")


def test_only_one_namespace_may_have_a_limit() -> None:
    assert EventQuotas(Quotas(namespaces={"shop": NamespaceQuotas(events_per_second=1)}), clock=Clock()).active


def test_full_buckets_are_not_remembered() -> None:
    clock = Clock()
    quotas = EventQuotas(Quotas(events_per_second=1), clock=clock)
    quotas.charge({"late": 1000})
    for number in range(10_000):
        clock.now += 0.01
        quotas.charge({f"n{number}": 1})
    assert len(quotas._buckets) < 5000
    assert quotas.wait("late") > 0, "those that owe are"


@pytest.mark.parametrize(("wait", "seconds"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2)])
def test_retry_after_is_whole_seconds(wait: float, seconds: int) -> None:
    assert whole_seconds(wait) == seconds


def test_values_of_the_chart_are_read_as_they_are() -> None:
    quotas = Quotas.model_validate_json(
        '{"eventsPerSecond": 5, "storedEvents": 0, "rulesPerSensor": 7, "namespaces": {"a": {"rulesPerSensor": 9}}}'
    )
    assert (quotas.events_per_second_of("a"), quotas.rules_per_sensor_of("a"), quotas.rules_per_sensor_of("b")) == (
        5,
        9,
        7,
    )
