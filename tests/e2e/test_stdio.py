"""Programs that print JSON lines as Sensors, from one manifest each."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.eventually import eventually
from support.system import REPOSITORY, AppliedRule, System

EXAMPLES = REPOSITORY / "examples" / "stdio"


def apply(system: System, file: Path, **changes: Any) -> AppliedRule:
    """Apply a sample's Sensor, with changes to its spec, and its Rule; wait until the Sensor is ready."""
    sensor, rule = (copy.deepcopy(found) for found in yaml.safe_load_all(file.read_text()))
    for body in (sensor, rule):
        body["metadata"]["namespace"] = system.namespace
    sensor["spec"] = {key: value for key, value in {**sensor["spec"], **changes}.items() if value is not None}
    system.kube.apply(sensor)
    system.kube.apply(rule)
    name = sensor["metadata"]["name"]
    system.kube("wait", "--for=condition=Ready", f"sensor/{name}", "-n", system.namespace, "--timeout=180s")
    return AppliedRule(rule["metadata"]["name"], system.namespace, system.kube, system.api)


@pytest.mark.parametrize("name", ["shell", "python", "node"])
def test_a_program_from_one_manifest_makes_events(system: System, name: str) -> None:
    rule = apply(system, EXAMPLES / f"{name}.yaml")
    events = rule.wait_events(lambda events: len(events) >= 3, within=60)
    assert len({event.id for event in events}) == len(events)
    if name == "shell":
        assert [event.payload["n"] for event in events] == [1, 2, 3]
        rule.wait_condition("Active", "False", reason="Completed")
    else:
        rule.wait_condition("Active", "True")


def test_the_supervisor_is_copied_into_an_image_that_has_python(system: System) -> None:
    # The timer's image stands for anybody's: it has a python3 and no supervisor.
    rule = apply(system, EXAMPLES / "shell.yaml", image=system.pack_sensor()["spec"]["image"])
    pod = system.wait_ready_pod("shell", system.namespace)
    assert [container["name"] for container in pod["spec"]["initContainers"]] == ["stdio"]
    rule.wait_events(lambda events: len(events) == 3, within=60)


def test_a_failing_program_says_its_last_words_and_a_changed_script_mends_it(system: System) -> None:
    broken = "#!/bin/sh\necho no such queue >&2\nexit 3\n"
    rule = apply(system, EXAMPLES / "shell.yaml", scripts={"watch.sh": broken})
    message = rule.wait_condition("Active", "False", reason="Failing", within=30)["message"]
    assert "ended with status 3" in message
    assert message.endswith("It said last: no such queue")

    def logged() -> bool:
        [pod] = system.pods("shell", system.namespace)
        return "no such queue" in system.kube("logs", pod["metadata"]["name"], "-n", system.namespace)

    eventually(logged, within=30, what="its last words are in the pod's log")

    apply(system, EXAMPLES / "shell.yaml")
    rule.wait_events(lambda events: len(events) == 3, within=90)


def test_what_misbehaves_disturbs_no_other_rule_and_no_other_pod(system: System) -> None:
    script = (
        "#!/bin/sh\ntrap '' TERM\n"
        'if [ "$ATTUNE_PARAM_TIMES" = 1 ]; then while :; do echo garbage; done; fi\n'
        'n=0; while :; do n=$((n + 1)); echo "{\\"payload\\": {\\"n\\": $n}, \\"occurrence\\": $n}"; sleep 0.2; done\n'
    )
    good = apply(system, EXAMPLES / "shell.yaml", scripts={"watch.sh": script})
    bad = system.rule("flood", trigger="example.shell", parameters={"times": 1})

    failing = bad.wait_condition("Active", "False", reason="Failing", within=90)
    assert "Nothing gets through" in failing["message"]
    assert "garbage" in failing["message"]
    before = len(good.events())
    good.wait_events(lambda events: len(events) >= before + 20, within=30)
    [pod] = system.pods("shell", system.namespace)
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    bad.delete()
    events = good.events()
    assert [event.payload["n"] for event in events] == list(range(1, len(events) + 1))
