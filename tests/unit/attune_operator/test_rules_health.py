"""How a Sensor fares, by its own word and by its silence; the clock is a number."""

from datetime import UTC, datetime
from typing import Any

import pytest

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import InvalidMessageError, SensorHealth, encode
from attune_operator.rules.acks import parse_ack
from attune_operator.rules.health import SensorHealthCache, parse_health
from attune_operator.runtime.views import HealthView, SensorRuntime

TIMER = SensorRef("attune-system", "core.timer")
POD = "sensor-core.timer-6b5f-x2x"


def word(
    instance: str = POD, *, rules: int = 3, every: float = 15.0, problems: dict[str, str] | None = None
) -> SensorHealth:
    return SensorHealth(
        instance=instance, at=datetime(2026, 1, 1, tzinfo=UTC), every=every, rules=rules, problems=problems or {}
    )


def judge(
    reports: SensorHealthCache, *, now: float = 0.0, ready: int = 1, pods: Any = (POD,), bound: int = 3
) -> HealthView:
    runtime = SensorRuntime(ready_replicas=ready, instances=None if pods is None else frozenset(pods))
    return reports.judge(TIMER, runtime=runtime, bound=bound, now=now)


@pytest.fixture
def reports() -> SensorHealthCache:
    made = SensorHealthCache()
    made.put(TIMER.token, word(), now=0)
    return made


def test_a_sensor_that_says_so_is_healthy(reports: SensorHealthCache) -> None:
    health = judge(reports)
    assert (health.healthy, health.reason) == (True, "Healthy")
    assert health.message == "It reaches the API and NATS. 3 Rules are bound to it."


def test_a_sensor_that_serves_no_rule_says_so(reports: SensorHealthCache) -> None:
    reports.put(TIMER.token, word(rules=0), now=1)
    health = judge(reports, bound=0, now=1)
    assert (health.healthy, health.reason) == (True, "NoRules")
    assert "No Rule is bound to it, so it reports no events" in health.message


def test_a_sensor_that_knows_of_none_of_its_rules_is_found_out(reports: SensorHealthCache) -> None:
    reports.put(TIMER.token, word(rules=0), now=1)
    assert judge(reports, now=1).healthy, "they may be on their way"
    reports.put(TIMER.token, word(rules=0), now=30)
    health = judge(reports, now=32)
    assert (health.healthy, health.reason) == (False, "RulesNotServed")
    assert health.message.startswith(f"3 Rules are bound to this Sensor, but the pod {POD} knows none.")
    reports.put(TIMER.token, word(rules=3), now=33)
    assert judge(reports, now=33).healthy
    reports.put(TIMER.token, word(rules=0), now=90)
    assert judge(reports, now=90).healthy, "a restart begins a new count"


@pytest.mark.parametrize(
    ("problems", "reason"),
    [
        ({"api": "cannot reach http://api (since 12:00)"}, "ApiUnavailable"),
        ({"events": "dropped", "api": "cannot reach http://api"}, "ApiUnavailable"),
        ({"token": "expired", "api": "HTTP 401"}, "TokenUnusable"),
        ({"spool": "disk full"}, "SpoolFailing"),
        ({"queue": "the broker is away"}, "Problem"),
        ({"queue": "the broker is away", "events": "dropped"}, "EventsDropped"),
    ],
)
def test_problems_are_said_the_gravest_first(reports: SensorHealthCache, problems: dict[str, str], reason: str) -> None:
    reports.put(TIMER.token, word(problems=problems), now=1)
    health = judge(reports, now=1)
    assert (health.healthy, health.reason) == (False, reason)
    assert all(f"{POD}: {text}" in health.message for text in problems.values())
    reports.put(TIMER.token, word(), now=2)
    assert judge(reports, now=2).healthy


def test_what_many_pods_say_is_cut(reports: SensorHealthCache) -> None:
    pods = [f"pod-{number}" for number in range(5)]
    for name in pods:
        reports.put(TIMER.token, word(name, problems={"api": "x" * 10_000}), now=1)
    message = judge(reports, pods=pods, ready=5, now=1).message
    assert len(message) < 1100
    assert message.endswith("and 2 more")


def test_a_pod_that_falls_silent_cannot_reach_nats(reports: SensorHealthCache) -> None:
    assert judge(reports, now=45).healthy
    health = judge(reports, now=45.1)
    assert (health.healthy, health.reason) == (False, "NatsUnavailable")
    assert f"No health report from the pod {POD} over NATS" in health.message
    assert judge(reports, now=99).message == health.message, "the status is not written again while nothing changes"
    reports.put(TIMER.token, word(), now=100)
    assert judge(reports, now=100).healthy


def test_a_pod_that_never_spoke_is_missed_after_a_while(reports: SensorHealthCache) -> None:
    pods = (POD, "another")
    assert judge(reports, pods=pods, ready=1, now=1).healthy
    reports.put(TIMER.token, word(), now=30)
    health = judge(reports, pods=pods, ready=1, now=32)
    assert (health.reason, "the pod another" in health.message) == ("NatsUnavailable", True)
    reports.put(TIMER.token, word("another"), now=33)
    assert judge(reports, pods=pods, ready=2, now=33).healthy


def test_nothing_was_ever_heard() -> None:
    reports = SensorHealthCache()
    assert judge(reports, ready=0).healthy is None
    assert judge(reports, ready=0, now=31).reason == "NatsUnavailable", "it runs, is not ready, and is silent"
    reports = SensorHealthCache()
    assert judge(reports, ready=1).reason == "NotReported"
    health = judge(reports, ready=1, now=1000)
    assert (health.healthy, health.reason) == (None, "NotReported"), "it works, and need not speak of itself"


def test_no_pod_no_judgement(reports: SensorHealthCache) -> None:
    assert judge(reports, pods=(), ready=0).reason == "NoPod"
    assert judge(SensorHealthCache(), pods=None, ready=0).reason == "NoPod"


@pytest.mark.parametrize("pods", [None, ()])
def test_a_sensor_whose_pod_has_just_begun_has_not_reported_yet(pods: tuple[str, ...] | None) -> None:
    found = judge(SensorHealthCache(), pods=pods, ready=1)
    assert (found.healthy, found.reason) == (None, "NotReported")
    assert "not reported its health yet" in found.message


def test_without_knowing_the_pods_those_that_were_heard_lately_count(reports: SensorHealthCache) -> None:
    reports.put(TIMER.token, word("second"), now=50)
    assert judge(reports, pods=None, now=60).healthy, "the first is gone"
    assert judge(reports, pods=None, now=200).reason == "NatsUnavailable"


def test_our_own_absence_accuses_nobody(reports: SensorHealthCache) -> None:
    reports.begin(now=1000)
    assert judge(reports, now=1040).healthy
    assert judge(reports, now=1046).reason == "NatsUnavailable"


def test_words_of_pods_that_are_gone_are_given_up(reports: SensorHealthCache) -> None:
    reports.put(TIMER.token, word("gone"), now=0)
    reports.put("default.deleted", word("pod"), now=0)
    living = {TIMER.token: frozenset({POD})}
    assert reports.departed(living=living, now=600) == []
    assert sorted(reports.departed(living=living, now=601)) == [
        ("attune-system.core_timer", "gone"),
        ("default.deleted", "pod"),
    ]
    assert reports.departed(living=living, now=700) == []
    assert judge(reports, now=0).healthy


def test_what_was_said_before_is_no_news(reports: SensorHealthCache) -> None:
    assert not reports.put(TIMER.token, word(), now=15)
    assert not reports.put(TIMER.token, word(rules=4), now=30)
    assert reports.put(TIMER.token, word(rules=0), now=31)
    assert reports.put(TIMER.token, word(problems={"api": "away"}), now=32)
    assert not reports.put(TIMER.token, word(problems={"api": "away"}), now=33)
    assert reports.put(TIMER.token, word(problems={"api": "away"}), now=100), "it was silent"
    assert reports.put(TIMER.token, word("another"), now=100)


def test_a_sensor_cannot_fill_the_memory(reports: SensorHealthCache) -> None:
    for number in range(1000):
        reports.put(TIMER.token, word(f"made-up-{number}"), now=1 + number)
    assert len(reports._reports[TIMER.token]) == 64


def test_the_message_goes_beside_the_acks() -> None:
    subject = subjects.health_subject(subjects.acks_prefix(TIMER), "a pod.>*")
    assert subject == "attune.acks.attune-system.core_timer.health.a_pod___"
    said = word("a pod.>*", problems={"api": "away"})
    assert parse_health(subject=subject, body=encode(said)) == (TIMER.token, said)
    with pytest.raises(InvalidMessageError):
        parse_ack(subject=subject, sequence=1, body=encode(said), seen=1)
    assert parse_health(subject=subjects.ack_subject(TIMER, "uid"), body=b"{}") is None
    with pytest.raises(InvalidMessageError, match="is about the instance 'other'"):
        parse_health(subject=subject, body=encode(word("other")))
    with pytest.raises(InvalidMessageError, match="not a sensor's health"):
        parse_health(subject=subject, body=b"[]")
