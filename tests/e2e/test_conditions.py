"""A Rule or a Sensor says in its conditions what is the matter, and kubectl shows it."""

import pytest
from support.eventually import eventually
from support.kubectl import CommandFailedError, Manifest
from support.system import REPOSITORY, SYSTEM, System


@pytest.mark.both
@pytest.mark.parametrize(
    ("trigger", "parameters", "reason", "words"),
    [
        ("core.intervaltimer", {"interval": -1, "unit": "seconds"}, "InvalidParameters", ["interval", "0.1 seconds"]),
        (
            "core.intervaltimer",
            {"interval": 1, "unit": "fortnights"},
            "InvalidParameters",
            ["unit", "fortnights", "weeks"],
        ),
        ("core.intervaltimer", {"unit": "seconds"}, "InvalidParameters", ["interval"]),
        ("core.intervalltimer", {"interval": 1}, "UnknownTriggerType", ["core.intervalltimer", "core.intervaltimer"]),
    ],
    ids=["interval -1", "unit fortnights", "no interval", "unknown trigger type"],
)
def test_a_rule_that_cannot_run_says_why(
    system: System, trigger: str, parameters: Manifest, reason: str, words: list[str]
) -> None:
    good = system.rule("good")
    bad = system.rule("bad", trigger=trigger, parameters=parameters)
    accepted = bad.wait_condition("Accepted", "False", reason=reason)
    for word in words:
        assert word in accepted["message"], accepted["message"]
    bad.wait_condition("Active", "False", reason="NotAccepted")

    # Nothing else is disturbed.
    good.wait_condition("Active", "True")
    seen = len(good.events())
    good.wait_events(lambda events: len(events) >= seen + 2, within=10)
    # Mended, it runs.
    bad.patch({"trigger": {"type": "core.intervaltimer", "parameters": {"interval": 1, "unit": "seconds"}}})
    bad.wait_condition("Active", "True")


@pytest.mark.both
def test_a_rule_in_a_namespace_that_no_sensor_admits_says_so(system: System) -> None:
    types = [{"name": "private.clock"}]
    system.sensor("private", triggerTypes=types, rules={"namespaces": {"from": "Same"}}, wait=False)
    rule = system.rule("outsider", trigger="private.clock", namespace="default")
    try:
        message = rule.wait_condition("Accepted", "False", reason="NotAllowed")["message"]
        assert f"{system.namespace}/private" in message
        assert "default" in message
    finally:
        rule.delete()


def test_active_only_after_the_sensor_has_said_so(system: System) -> None:
    # This sensor's image cannot be pulled, so it never says anything.
    system.sensor("dumb", image="registry.invalid/no/such:1", wait=False)
    rule = system.rule("waiting")
    active = rule.wait_condition("Active", "False", reason="AwaitingSensor")
    assert rule.wait_condition("Accepted", "True")["status"] == "True"
    assert "dumb" in active["message"]

    def columns() -> list[str]:
        header, line = system.kube("get", "rules", "waiting", "-n", system.namespace).splitlines()
        assert header.split()[:6] == ["NAME", "TYPE", "SENSOR", "ENABLED", "ACTIVE", "REASON"]
        return line.split()

    awaiting = ["core.intervaltimer", f"{system.namespace}/dumb", "true", "False", "AwaitingSensor"]
    eventually(lambda: columns()[1:6] == awaiting, within=10, what="the columns say that the Sensor is awaited")
    # The Sensor says why, too.
    eventually(
        lambda: "ull" in system.kube("get", "sensors", "dumb", "-n", system.namespace).splitlines()[1],
        within=30,
        what="the Sensor's reason names the image's pull",
    )

    system.kube.patch("sensor", "dumb", system.namespace, {"spec": {"image": system.pack_sensor()["spec"]["image"]}})
    rule.wait_condition("Active", "True", within=60)
    eventually(lambda: columns()[4:6] == ["True", "Active"], within=10, what="the columns say that it is active")


def test_a_stopped_sensor_leaves_its_rules_awaiting_it(system: System) -> None:
    system.sensor("own")
    rule = system.rule("left-alone")
    rule.wait_condition("Active", "True")

    pod = system.wait_ready_pod("own", system.namespace)
    node = pod["spec"]["nodeName"]
    system.kube("cordon", node)
    try:
        system.kube.delete("pod", pod["metadata"]["name"], system.namespace, "--now")
        rule.wait_condition("Active", "False", reason="AwaitingSensor")
    finally:
        system.kube("uncordon", node)
    rule.wait_condition("Active", "True", within=60)


@pytest.mark.both
def test_a_paused_sensor_keeps_its_rules_and_says_so(system: System) -> None:
    system.sensor("own")
    rule = system.rule("parked")
    rule.wait_condition("Active", "True")
    system.kube.patch("sensor", "own", system.namespace, {"spec": {"paused": True}})
    rule.wait_condition("Active", "False", reason="SensorPaused", within=60)
    eventually(lambda: not system.pods("own", system.namespace), within=60, what="no pod runs")
    system.kube.patch("sensor", "own", system.namespace, {"spec": {"paused": False}})
    rule.wait_condition("Active", "True", within=60)


MALFORMED: dict[str, tuple[Manifest, str]] = {
    "no trigger": ({"kind": "Rule", "spec": {"enabled": True}}, "spec.trigger"),
    "trigger type without a pack": ({"kind": "Rule", "spec": {"trigger": {"type": "timer"}}}, "spec.trigger.type"),
    "parameters that are a list": (
        {"kind": "Rule", "spec": {"trigger": {"type": "core.intervaltimer", "parameters": [1]}}},
        "spec.trigger.parameters",
    ),
    "enabled that is a word": (
        {"kind": "Rule", "spec": {"enabled": "often", "trigger": {"type": "core.intervaltimer"}}},
        "spec.enabled",
    ),
    "sensor without trigger types": (
        {"kind": "Sensor", "spec": {"image": "x", "triggerTypes": []}},
        "spec.triggerTypes",
    ),
    "ttl above 72h": (
        {"kind": "Sensor", "spec": {"image": "x", "triggerTypes": [{"name": "a.b"}], "token": {"ttl": "73h"}}},
        "at most 72h",
    ),
    "an alias that is a name": (
        {
            "kind": "Sensor",
            "spec": {"image": "x", "triggerTypes": [{"name": "a.b"}, {"name": "c.d", "aliases": ["a.b"]}]},
        },
        "alias",
    ),
    "a variable of the operator's": (
        {
            "kind": "Sensor",
            "spec": {
                "image": "x",
                "triggerTypes": [{"name": "a.b"}],
                "env": [{"name": "ATTUNE_API_URL", "value": "x"}],
            },
        },
        "ATTUNE_",
    ),
    "selector without from: Selector": (
        {
            "kind": "Sensor",
            "spec": {
                "image": "x",
                "triggerTypes": [{"name": "a.b"}],
                "rules": {"namespaces": {"from": "All", "selector": {"matchLabels": {"a": "b"}}}},
            },
        },
        "selector",
    ),
}


@pytest.mark.both
@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_object_is_refused_by_kubectl_apply(system: System, case: str) -> None:
    manifest, words = MALFORMED[case]
    body = {"apiVersion": "attune.dev/v1alpha1", "metadata": {"name": "bad", "namespace": system.namespace}, **manifest}
    with pytest.raises(CommandFailedError) as refused:
        system.kube.apply(body)
    assert words in refused.value.stderr


def test_kubectl_diff_after_apply_is_empty_and_wait_works(system: System) -> None:
    system.kube("wait", "--for=condition=Ready", "sensor/core.timer", "-n", SYSTEM, "--timeout=180s")
    path = str(REPOSITORY / "packs" / "core")
    system.kube("apply", "-f", path)
    assert system.kube("diff", "-f", path) == ""
    system.kube("wait", "--for=condition=Active", "rule/echo-every-second", "-n", "default", "--timeout=180s")


def test_kubectl_explains_the_resources(system: System) -> None:
    assert "missing" not in system.kube("explain", "rule.spec.trigger.type")
    assert "core.intervaltimer" in system.kube("explain", "rule.spec.trigger.type")
    assert "72h" in system.kube("explain", "sensor.spec.token.ttl")


def test_every_pod_passes_the_restricted_pod_security_level(system: System) -> None:
    # Enforced on all these namespaces already; asking again lists whatever would break it.
    for namespace in (SYSTEM, system.namespace):
        label = "pod-security.kubernetes.io/enforce=restricted"
        namespaced = system.kube("get", "namespace", namespace, "--show-labels")
        assert label in namespaced
    system.wait_ready_pod("core.timer", SYSTEM)
