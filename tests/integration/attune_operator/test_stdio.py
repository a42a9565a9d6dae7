"""Sensors with runner: Stdio in a real Kubernetes: what is refused, and what becomes of scripts."""

from typing import Any

import pytest
from support.eventually import until
from support.kubectl_user import KubectlUser

from attune_operator.app import Operator
from attune_operator.resources import kinds
from attune_operator.resources.kinds import Object
from attune_operator.runtime.client import ClusterError

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.nats]

SCRIPT = "#!/bin/sh\nwhile :; do echo '{\"payload\": {}}'; sleep 1; done\n"


async def apply(user: KubectlUser, **spec: Any) -> Object:
    """Apply a Sensor named ticks with just this spec and a trigger type."""
    return await user.client.apply(
        kinds.SENSOR,
        {
            "apiVersion": "attune.dev/v1alpha1",
            "kind": "Sensor",
            "metadata": {"name": "ticks", "namespace": user.namespace},
            "spec": {"triggerTypes": [{"name": "acme.tick"}], **spec},
        },
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "spec.image is required, unless runner is Stdio"),
        ({"runner": "Stdio"}, "needs spec.command"),
        ({"runner": "Stdio", "command": []}, "needs spec.command"),
        ({"image": "a", "stdio": {}}, "spec.stdio is only for runner: Stdio"),
        ({"image": "a", "scripts": {"a": ""}}, "spec.scripts is only for runner: Stdio"),
        ({"runner": "Stdio", "command": ["a"], "stdio": {"supervisor": "Image"}}, "is only for an image of your own"),
        (
            {"runner": "Stdio", "command": ["a"], "stdio": {"mode": "perSensor", "onExit": "Restart"}},
            "onExit is only for",
        ),
        ({"runner": "Stdio", "command": ["a"], "stdio": {"mode": "perPod"}}, "perRule"),
        ({"runner": "Stdio", "command": ["a"], "stdio": {"stopSeconds": 21}}, "stopSeconds"),
        ({"runner": "Stdio", "command": ["a"], "scripts": {"../a": ""}}, "a script's name consists of"),
        ({"runner": "Stdio", "command": ["a"], "scripts": {"a/b": ""}}, "a script's name consists of"),
        ({"runner": "Stdio", "command": ["a"], "scripts": {}}, "at least 1"),
    ],
)
async def test_what_cannot_work_is_refused_with_a_sentence(user: KubectlUser, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ClusterError) as refused:
        await apply(user, **spec)
    assert refused.value.status == 422
    assert words in str(refused.value)


async def test_scripts_come_change_are_repaired_and_go(user: KubectlUser, operator: Operator) -> None:
    async def scripts() -> Object | None:
        return await user.client.get(kinds.CONFIG_MAP, user.namespace, "sensor-ticks-scripts")

    async def template() -> dict[str, Any]:
        found = await user.client.get(kinds.DEPLOYMENT, user.namespace, "sensor-ticks")
        return {} if found is None else dict(found["spec"]["template"])

    sensor = await apply(user, runner="Stdio", command=["./tick"], scripts={"tick": SCRIPT})
    made = await until(scripts, what="the scripts")
    assert made["data"] == {"tick": SCRIPT}
    assert made["metadata"]["ownerReferences"][0]["uid"] == sensor["metadata"]["uid"]
    # The restricted level admits its pods.
    await until(lambda: user.pods("ticks"), what="a pod")
    first = await template()

    await user.client.merge(kinds.CONFIG_MAP, user.namespace, "sensor-ticks-scripts", {"data": {"tick": "evil"}})

    async def repaired() -> bool:
        found = await scripts()
        return found is not None and found["data"] == {"tick": SCRIPT}

    await until(repaired, what="the script put back")

    await apply(user, runner="Stdio", command=["./tick"], scripts={"tick": SCRIPT + "#\n"})

    async def rolled() -> bool:
        return bool((await template())["metadata"]["annotations"] != first["metadata"]["annotations"])

    await until(rolled, what="the pods rolled")

    await apply(user, runner="Stdio", command=["sh", "-c", "true"], image="busybox:1")

    async def gone() -> bool:
        return await scripts() is None

    await until(gone, what="the scripts taken away")
    assert [found["name"] for found in (await template())["spec"]["initContainers"]] == ["stdio"]
