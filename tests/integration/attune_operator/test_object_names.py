"""Two Sensors whose objects would have the same name both run, on a real API server."""

from typing import Any

import pytest
from support.eventually import until
from support.kubectl_user import KubectlUser

from attune_contract import names
from attune_operator.app import Operator
from attune_operator.resources import kinds
from attune_operator.resources.kinds import Kind, Object

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.nats]

PORTS = [{"name": "http", "port": 8000, "servicePort": 80}]
SCRIPTS: dict[str, Any] = {"runner": "Stdio", "command": ["./a.sh"], "scripts": {"a.sh": "#!/bin/sh\n"}}


async def available(user: KubectlUser, sensor: str) -> str:
    """The message of Ready, once the Sensor is."""

    async def look() -> str | None:
        await user.run_pods(sensor)
        found = await user.condition("Ready", sensor)
        return found["message"] if found.get("reason") == "Available" else None

    said: str = await until(look, what=f"{sensor} is available")
    return said


async def owner(user: KubectlUser, kind: Kind, name: str) -> str:
    [found] = (await user.get(kind, name))["metadata"]["ownerReferences"]
    return str(found["name"])


async def volume(user: KubectlUser, sensor: str, name: str) -> Object:
    spec = (await user.get(kinds.DEPLOYMENT, f"sensor-{sensor}"))["spec"]["template"]["spec"]
    return next(found["configMap"] for found in spec["volumes"] if found["name"] == name)


async def test_services_of_a_dot_b_and_a_dash_b(user: KubectlUser, operator: Operator) -> None:
    usual, other = "sensor-a-b", names.other_object_name("a-b", "sensor-a-b")
    await user.apply_sensor("a.b", ports=PORTS)
    assert await available(user, "a.b") == "1 pod is ready."
    await user.apply_sensor("a-b", ports=PORTS)
    said = f"1 pod is ready. Its Service is {other}, because another Sensor has the Service {usual}."

    async def names_it() -> bool:
        return await available(user, "a-b") == said

    await until(names_it)
    assert await owner(user, kinds.SERVICE, usual) == "a.b"
    assert await owner(user, kinds.SERVICE, other) == "a-b"
    # The name is free again, and what is there keeps its own.
    await user.delete(kinds.SENSOR, "a.b")

    async def gone() -> bool:
        return await user.find(kinds.SERVICE, usual) is None

    await until(gone)
    await user.apply_sensor("a-b", ports=[{**PORTS[0], "servicePort": 81}])

    async def changed() -> bool:
        return bool((await user.get(kinds.SERVICE, other))["spec"]["ports"][0]["port"] == 81)

    await until(changed)
    assert await gone()
    # It goes when it is no longer needed.
    await user.apply_sensor("a-b")

    async def removed() -> bool:
        return await user.find(kinds.SERVICE, other) is None

    await until(removed)


@pytest.mark.parametrize("scripts_first", [True, False])
async def test_config_maps_of_scripts_and_of_a_sensor_that_is_named_scripts(
    user: KubectlUser, operator: Operator, scripts_first: bool
) -> None:
    shared = "sensor-x-scripts"
    both: list[tuple[str, dict[str, Any]]] = [("x", SCRIPTS), ("x-scripts", {"config": {"a": 1}})]
    first, second = both if scripts_first else reversed(both)
    await user.apply_sensor(first[0], **first[1])
    await available(user, first[0])
    await user.apply_sensor(second[0], **second[1])
    await available(user, second[0])
    other = names.other_object_name(second[0], shared)
    assert await owner(user, kinds.CONFIG_MAP, shared) == first[0]
    assert await owner(user, kinds.CONFIG_MAP, other) == second[0]
    scripts, config = (shared, other) if scripts_first else (other, shared)
    assert (await volume(user, "x", "scripts"))["name"] == scripts
    assert (await volume(user, "x-scripts", "config"))["name"] == config
