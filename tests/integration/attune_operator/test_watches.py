"""What kopf is shown at a real API server: also when a Sensor is nested deeper than JSON can be decoded."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
from support.eventually import until
from support.kubectl_user import KubectlUser

from attune_kit.kubernetes.client import KubernetesClient
from attune_operator.observers import Observers
from attune_operator.resources import kinds
from attune_operator.watching import Watches

pytest_plugins = ["support.operator_fixtures"]

pytestmark = pytest.mark.apiserver


class Seen:
    """Names of the Sensors that the watches showed."""

    def __init__(self) -> None:
        self.sensors: list[str] = []

    def observe_sensor(self, _: str, body: dict[str, Any]) -> None:
        self.sensors.append(body["metadata"]["name"])

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


@asynccontextmanager
async def watching(user: KubectlUser, seen: Seen) -> AsyncIterator[None]:
    watches = Watches(cast("Observers", seen), access=user.client.access, namespaces=(user.namespace,))
    task = asyncio.create_task(watches.run())
    try:
        yield
        assert not task.done(), "the watches have ended"
    finally:
        watches.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def create_deep_sensor(user: KubectlUser, name: str, levels: int) -> None:
    """As anyone who may create Sensors can."""
    client = KubernetesClient(user.client.access, user_agent="test")
    deep = b'{"a":' * levels + b"1" + b"}" * levels
    metadata = msgspec.json.encode({"name": name, "namespace": user.namespace})
    body = (
        b'{"apiVersion":"attune.dev/v1alpha1","kind":"Sensor","metadata":'
        + metadata
        + b',"spec":{"image":"a.invalid/b:1",'
        b'"triggerTypes":[{"name":"acme.deep"}],"config":{"x":' + deep + b"}}}"
    )
    try:
        await client.request("POST", kinds.SENSOR.path(user.namespace), body=msgspec.Raw(body))
    finally:
        await client.close()


@pytest.mark.parametrize("levels", [1_200, 5_000])
async def test_a_sensor_that_is_nested_too_deep_is_passed_over_alone(user: KubectlUser, levels: int) -> None:
    """It would end kopf's watch, and with it the operator, in a list as well as in a watch."""
    seen = Seen()
    await create_deep_sensor(user, "listed", levels)
    await user.apply_sensor("plain")
    try:
        async with watching(user, seen):
            await until(lambda: "plain" in seen.sensors, within=30, what="the list is shown")
            await create_deep_sensor(user, "watched", levels)
            await user.apply_sensor("later")
            await until(lambda: "later" in seen.sensors, within=30, what="the watch goes on")
        assert set(seen.sensors) == {"plain", "later"}
    finally:
        client = KubernetesClient(user.client.access, user_agent="test")
        for name in ("listed", "watched"):
            await client.request("DELETE", kinds.SENSOR.path(user.namespace, name))
        await client.close()
