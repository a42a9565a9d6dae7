"""One NATS server becomes a cluster of three, and each of the three is killed in turn."""

import json
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from support.eventually import eventually
from support.system import REPOSITORY, SYSTEM, Event, System

CHART = str(REPOSITORY / "deploy" / "helm" / "attune")
NATS = "statefulset/attune-nats"


def switch(system: System, *values: str) -> None:
    system.kube.run_helm("upgrade", "attune", CHART, "-n", SYSTEM, "--reuse-values", *values)
    for kind in (NATS, "deployment/attune-operator", "deployment/attune-api", "deployment/attune-actions"):
        system.kube("rollout", "status", kind, "-n", SYSTEM, "--timeout=300s")


def beyond(count: int) -> Callable[[list[Event]], bool]:
    return lambda events: len(events) >= count


@pytest.fixture
def three(system: System) -> Iterator[None]:
    """Three servers; one afterwards, which begins with an empty volume."""
    switch(system, "--set", "nats.replicas=3")
    yield
    system.kube("scale", NATS, "-n", SYSTEM, "--replicas=0")
    system.kube("wait", "--for=delete", "pod/attune-nats-0", "-n", SYSTEM, "--timeout=180s")
    for number in range(3):
        system.kube.delete("persistentvolumeclaim", f"data-attune-nats-{number}", SYSTEM)
    switch(system, "--set", "nats.replicas=1")
    system.api.close()


def test_each_of_three_servers_is_killed_and_no_event_is_missing(system: System, three: None) -> None:
    rule = system.rule("steady", parameters={"interval": 1})
    rule.wait_condition("Active", "True", within=180)
    rule.wait_events(lambda events: len(events) >= 3, within=60)
    active = []
    for number in range(3):
        pod = f"attune-nats-{number}"
        uid = system.kube.get("pod", pod, SYSTEM)["metadata"]["uid"]
        system.kube("delete", "pod", pod, "-n", SYSTEM, "--grace-period=0", "--force")
        # While it is away, a new Rule comes into force.
        began = time.monotonic()
        other = system.rule(f"new-{number}", parameters={"interval": 1})
        other.wait_condition("Active", "True", within=120)
        active.append(round(time.monotonic() - began, 1))

        def back(pod: str = pod, uid: str = uid) -> bool:
            found = system.kube.find("pod", pod, SYSTEM)
            if found is None or found["metadata"]["uid"] == uid:
                return False
            conditions = found.get("status", {}).get("conditions", [])
            return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

        eventually(back, within=180, every=1, what=f"{pod} is back")
        rule.wait_events(beyond(len(rule.events()) + 10), within=60)
    rule.patch({"enabled": False})
    rule.wait_condition("Active", "False", reason="Disabled", within=60)
    events = rule.events()
    gaps = [(later.occurred_at - earlier.occurred_at).total_seconds() for earlier, later in pairwise(events)]
    print(
        json.dumps(
            {
                "events": len(events),
                "gaps in seconds": sorted(set(gaps)),
                "seconds until new Rules were active": active,
            },
            indent=1,
        )
    )
    assert len({event.id for event in events}) == len(events)
    assert set(gaps) == {1.0}
