"""Others at work on a Sensor for minutes: an autoscaler, and a second installation that watches the same namespace."""

import itertools
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import pytest
from support.eventually import eventually
from support.kubectl import CommandFailedError
from support.system import REPOSITORY, System, temporary_namespace

HPA_MINUTES = 5
INSTALLATIONS_MINUTES = 2


def revisions(system: System) -> int:
    """How many templates of pods there were: each is a ReplicaSet."""
    return len(system.kube.list("replicasets", system.namespace, "attune.dev/sensor=own"))


def test_a_sensor_is_scaled_for_five_minutes(system: System) -> None:
    """By the subresource ``scale``, as a HorizontalPodAutoscaler does it."""
    system.sensor("own")
    rule = system.rule("steady", parameters={"interval": 1})
    rule.wait_events(lambda events: len(events) >= 1, within=30)
    ends = time.monotonic() + HPA_MINUTES * 60
    steps = 0
    for replicas in itertools.cycle((3, 2, 4, 1)):
        system.kube("scale", "sensor", "own", "-n", system.namespace, f"--replicas={replicas}")
        steps += 1

        def follows(replicas: int = replicas) -> bool:
            return len(system.pods("own", system.namespace)) == replicas

        eventually(follows, within=60, every=1, what=f"{replicas} pods")
        time.sleep(15)  # the pace of an autoscaler
        if time.monotonic() >= ends:
            break
    generation = system.kube.get("deployment", "sensor-own", system.namespace)["metadata"]["generation"]
    rule.patch({"enabled": False})
    rule.wait_condition("Active", "False", reason="Disabled", within=30)
    events = rule.events()
    gaps = {later.occurred_at - earlier.occurred_at for earlier, later in pairwise(events)}
    found = {
        "steps": steps,
        "writes of the Deployment": generation - 1,
        "templates": revisions(system),
        "events": len(events),
        "distinct events": len({event.id for event in events}),
        "gaps in seconds": sorted(gap.total_seconds() for gap in gaps),
    }
    print(json.dumps(found, indent=1))
    assert found["templates"] == 1
    assert found["writes of the Deployment"] == steps
    assert found["events"] == found["distinct events"]
    assert gaps == {timedelta(seconds=1)}


@pytest.fixture
def second(system: System) -> Iterator[str]:
    """A second installation, with NATS and keys of its own, that watches the test's namespace too."""
    with temporary_namespace(system.kube) as home:
        try:
            system.kube.run_helm(
                "install", "attune2", str(REPOSITORY / "deploy" / "helm" / "attune"), "-n", home,
                "--set", "crds.install=false", "--set", f"watchNamespaces={{{system.namespace}}}",
            )  # fmt: skip
            system.kube("rollout", "status", "deployment/attune2-operator", "-n", home, "--timeout=180s")
            yield home
        finally:
            try:
                system.kube.run_helm("uninstall", "attune2", "-n", home)
            except CommandFailedError as error:
                print(error)


def test_two_installations_watch_a_namespace_for_two_minutes(system: System, second: str) -> None:
    system.sensor("own")
    rule = system.rule("steady", parameters={"interval": 1})
    rule.wait_events(lambda events: len(events) >= 1, within=30)
    mark = system.kube.get("configmap", "attune-installation", system.namespace)["data"]["installation"]
    ends = time.monotonic() + INSTALLATIONS_MINUTES * 60
    eventually(lambda: time.monotonic() >= ends, within=INSTALLATIONS_MINUTES * 60 + 30, every=5, what="two minutes")
    loser = second if mark != second else "attune-system"
    name = "attune2-operator" if loser == second else "attune-operator"
    log = system.kube("logs", f"deployment/{name}", "-n", loser, "--tail=-1")
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    pods = system.pods("own", system.namespace)
    events = rule.events()
    found = {
        "looks after it": "the second" if mark == second else "the first",
        "tokens issued by the other": sum(
            line["event"] == "token_issued" and line["sensor"].startswith(f"{system.namespace}/") for line in lines
        ),
        "the other says": [line["message"] for line in lines if line["event"] == "namespace_kept_off"],
        "writes of the Deployment": system.kube.get("deployment", "sensor-own", system.namespace)["metadata"][
            "generation"
        ],
        "pods": len(pods),
        "events": len(events),
        "gaps in seconds": sorted({(b.occurred_at - a.occurred_at).total_seconds() for a, b in pairwise(events)}),
    }
    print(json.dumps(found, indent=1))
    assert found["tokens issued by the other"] == 0
    assert len(found["the other says"]) == 1
    assert found["writes of the Deployment"] == 1
    assert found["pods"] == 1
    assert found["gaps in seconds"] == [1.0]
