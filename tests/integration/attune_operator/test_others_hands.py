"""Autoscalers, and controllers that keep changing what the operator applied, on a real API server."""

import os
import time
from typing import Any

import pytest
from support.eventually import until
from support.kubectl_user import REPLICA_SET, KubectlUser

from attune_operator.app import Operator
from attune_operator.resources import kinds
from attune_operator.resources.kinds import Kind, Object

#: How long the Sensor is scaled; a long run is ATTUNE_SCALING_SECONDS=300.
SECONDS = float(os.environ.get("ATTUNE_SCALING_SECONDS", "0"))

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.nats]

DEPLOYMENT = "sensor-core.timer"


async def scale(user: KubectlUser, kind: Kind, name: str, replicas: int) -> None:
    """Set a number of pods, as a HorizontalPodAutoscaler does: it reads the scale and replaces it, again if it has changed."""
    path = kind.path(user.namespace, name, "scale")

    async def replaced() -> bool:
        found = await user.client.call("GET", path)
        found["spec"]["replicas"] = replicas
        await user.client.call("PUT", path, query={"fieldManager": "horizontal-pod-autoscaler"}, body=found)
        return True

    await until(replaced, what=f"{path} is replaced")


async def replica_sets(user: KubectlUser) -> list[Object]:
    return await user.client.list_objects(REPLICA_SET, user.namespace)


async def available(user: KubectlUser, pods: int) -> None:
    """Return when the Sensor is ready, with so many pods."""

    async def look() -> Any:
        await user.run_pods()
        [found] = [
            c for c in (await user.get(kinds.SENSOR, "core.timer"))["status"]["conditions"] if c["type"] == "Ready"
        ]
        scaled = await user.client.call("GET", kinds.SENSOR.path(user.namespace, "core.timer", "scale"))
        return (found["reason"], scaled["status"].get("replicas")) == ("Available", pods)

    await until(look, what=f"the Sensor is available with {pods} pods")


async def test_a_sensor_is_scaled_without_replacing_a_pod(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor()
    await until(user.pods)
    await available(user, 1)
    ends, steps = time.monotonic() + SECONDS, 0
    while steps == 0 or time.monotonic() < ends:
        for replicas in (4, 2, 6, 16, 3):
            await scale(user, kinds.SENSOR, "core.timer", replicas)
            await available(user, replicas)
            steps += 1
    print(f"{steps} steps in {SECONDS} s")
    assert len(await replica_sets(user)) == 1, "a change of the pods' template makes another"
    found = await user.client.call("GET", kinds.SENSOR.path(user.namespace, "core.timer", "scale"))
    assert found["status"]["selector"] == "attune.dev/sensor=core.timer"
    # As many writes of the Deployment as there were changes.
    assert (await user.get(kinds.DEPLOYMENT))["metadata"]["generation"] == 1 + steps


async def test_an_autoscaler_of_the_deployment_is_not_fought(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor()
    await until(user.pods)
    await available(user, 1)
    await scale(user, kinds.DEPLOYMENT, DEPLOYMENT, 4)
    await available(user, 4)
    # Another change of the Sensor leaves the number alone,
    await user.apply_sensor(env=[{"name": "A", "value": "1"}])

    async def rolled() -> bool:
        return len(await replica_sets(user)) == 2

    await until(rolled)
    assert (await user.get(kinds.DEPLOYMENT))["spec"]["replicas"] == 4
    # and so does the repair of another one.
    await user.edit(kinds.DEPLOYMENT, {"spec": {"minReadySeconds": 3}})

    async def repaired() -> bool:
        return not (await user.get(kinds.DEPLOYMENT))["spec"].get("minReadySeconds")

    await until(repaired)
    assert (await user.get(kinds.DEPLOYMENT))["spec"]["replicas"] == 4

    # What the Sensor asks for anew holds,
    await user.apply_sensor(replicas=2)

    async def asked() -> bool:
        return bool((await user.get(kinds.DEPLOYMENT))["spec"]["replicas"] == 2)

    await until(asked)
    # until the autoscaler says something else; but no Sensor is without pods that is not paused.
    await scale(user, kinds.DEPLOYMENT, DEPLOYMENT, 0)
    await until(asked)


async def test_who_insists_is_met_less_and_less_often_and_named(user: KubectlUser, operator: Operator) -> None:
    await user.apply_sensor()
    await until(user.pods)
    patch = {"spec": {"template": {"spec": {"tolerations": [{"key": "spot", "operator": "Exists"}]}}}}

    async def insist() -> bool:
        """One change by a controller, wherever the operator has undone the last one."""
        found = await user.get(kinds.DEPLOYMENT)
        if not found["spec"]["template"]["spec"].get("tolerations"):
            await user.client.call(
                "PATCH",
                kinds.DEPLOYMENT.path(user.namespace, DEPLOYMENT),
                query={"fieldManager": "kyverno"},
                body=patch,
                content_type="application/merge-patch+json",
            )
        return "kyverno changed spec.template " in (await user.condition("Contested")).get("message", "")

    await until(insist, what="the condition that names it")
    said = await user.condition("Contested")
    assert (said["status"], said["reason"]) == ("True", "ChangedByOthers")
    generation = (await user.get(kinds.DEPLOYMENT))["metadata"]["generation"]
    assert generation <= 1 + 2 * 7, "two writes for each change, and few changes"

    async def warned() -> bool:
        return any(event["reason"] == "ChangedByOthers" for event in await user.events())

    await until(warned)
    # Once it is repaired and left alone, the object is what the Sensor asks for.

    async def repaired() -> bool:
        return not (await user.get(kinds.DEPLOYMENT))["spec"]["template"]["spec"].get("tolerations")

    await until(repaired)
