"""Whatever is restarted, rules that were there go on firing, in the same phase (the predecessor's worst fault)."""

from datetime import UTC, datetime, timedelta

import pytest
from support.eventually import eventually
from support.killer import kill_container
from support.kubectl import Manifest, condition
from support.system import SYSTEM, AppliedRule, System

pytestmark = pytest.mark.both

INTERVAL = timedelta(seconds=2)


def ready_since(pod: Manifest) -> datetime:
    return datetime.fromisoformat(condition(pod, "Ready")["lastTransitionTime"])


def assert_goes_on_in_phase(rule: AppliedRule, ready_at: datetime) -> None:
    """Events come that occurred after `ready_at`, each at the creation time plus k intervals."""
    events = rule.wait_events(lambda events: bool(events) and events[-1].occurred_at >= ready_at, within=15)
    phases = {(event.occurred_at - rule.created_at) % INTERVAL for event in events}
    assert phases == {timedelta(0)}, "the phase changed"
    assert len({event.id for event in events}) == len(events)


def test_a_rule_that_is_there_before_its_sensor_fires_when_the_sensor_comes(system: System) -> None:
    system.kube.delete("sensor", "core.timer", SYSTEM)
    try:
        eventually(lambda: not system.pods("core.timer", SYSTEM), within=60, what="the sensor's pods are gone")
        rule = system.rule("early", parameters={"interval": 2})
        rule.wait_condition("Accepted", "False", reason="UnknownTriggerType")
    finally:
        system.kube.apply(system.pack_sensor())
    pod = system.wait_ready_pod("core.timer", SYSTEM)
    assert_goes_on_in_phase(rule, ready_since(pod))
    rule.wait_condition("Active", "True")


def test_a_deleted_pod_is_followed_by_one_that_goes_on(system: System) -> None:
    system.sensor("own")
    rule = system.rule("restarted", parameters={"interval": 2})
    rule.wait_events(lambda events: len(events) >= 2, within=15)

    pod = system.wait_ready_pod("own", system.namespace)
    system.kube.delete("pod", pod["metadata"]["name"], system.namespace)
    successor = system.wait_ready_pod("own", system.namespace, other_than=pod["metadata"]["uid"])
    assert_goes_on_in_phase(rule, ready_since(successor))


def test_a_killed_container_is_followed_by_one_that_goes_on(system: System) -> None:
    system.sensor("own")
    rule = system.rule("killed", parameters={"interval": 2})
    rule.wait_events(lambda events: len(events) >= 2, within=15)

    pod = system.wait_ready_pod("own", system.namespace)
    killed_at = datetime.now(UTC).replace(microsecond=0)
    kill_container(system.kube, pod)

    def restarted() -> bool:
        [now] = system.pods("own", system.namespace)
        [container] = now["status"]["containerStatuses"]
        return container["restartCount"] >= 1 and container["ready"] and ready_since(now) >= killed_at

    eventually(restarted, within=60, what="the container restarted and ready")
    assert_goes_on_in_phase(rule, ready_since(system.wait_ready_pod("own", system.namespace)))
