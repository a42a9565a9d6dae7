"""An operator in this process, and somebody who works with a real API server; what kubelet does is played."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from support.nats_server import NatsServer

from attune_contract.identity import SensorRef
from attune_operator.app import Operator
from attune_operator.resources import kinds
from attune_operator.resources.kinds import Kind, Object
from attune_operator.runtime.client import ClusterError
from attune_operator.runtime.kube_client import KubeClient
from attune_operator.sensors.cache import child_name
from attune_operator.settings import Settings

CORE_TIMER = SensorRef("", "core.timer")
REPLICA_SET = Kind("ReplicaSet", "replicasets", "apps")


class KubectlUser:
    """A person at a keyboard, with all rights, and kubelet, as far as a test plays it. Works in one namespace."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.defaults: dict[str, Any] = {}  # of every Sensor's spec

    async def apply_sensor(self, name: str = "core.timer", **spec: Any) -> Object:
        """Make or change a Sensor, as kubectl apply does."""
        types = [{"name": "core.intervaltimer", "parametersSchema": {"type": "object"}}]
        body = {
            "apiVersion": "attune.dev/v1alpha1",
            "kind": "Sensor",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"image": "registry.invalid/sensor:1", "triggerTypes": types, **self.defaults, **spec},
        }
        applied: Object = await self.client.call(
            "PATCH",
            kinds.SENSOR.path(self.namespace, name),
            query={"fieldManager": "kubectl", "force": "true"},
            body=body,
            content_type="application/apply-patch+yaml",
        )
        return applied

    async def annotate(self, name: str = "core.timer", **annotations: str | None) -> None:
        named = {f"attune.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        await self.edit(kinds.SENSOR, {"metadata": {"annotations": named}}, name=name)

    async def edit(self, kind: Kind, patch: Object, *, name: str = "", strategic: bool = False) -> Object:
        """Change an object by hand, as kubectl edit does."""
        content_type = "application/strategic-merge-patch+json" if strategic else "application/merge-patch+json"
        edited: Object = await self.client.call(
            "PATCH",
            kind.path(self.namespace, name or child_name(kind, CORE_TIMER)),
            query={"fieldManager": "kubectl-edit"},
            body=patch,
            content_type=content_type,
        )
        return edited

    async def delete(self, kind: Kind, name: str = "") -> None:
        found = await self.get(kind, name)
        await self.client.delete(kind, self.namespace, found["metadata"]["name"], uid=found["metadata"]["uid"])

    async def get(self, kind: Kind, name: str = "") -> Object:
        found = await self.find(kind, name)
        assert found is not None, f"there is no {kind.kind} {name}"
        return found

    async def find(self, kind: Kind, name: str = "") -> Object | None:
        return await self.client.get(kind, self.namespace, name or child_name(kind, CORE_TIMER))

    async def pods(self, sensor: str = "core.timer") -> list[Object]:
        found = await self.client.list_objects(kinds.POD, self.namespace, labels=f"attune.dev/sensor={sensor}")
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    async def condition(self, kind: str, name: str = "core.timer") -> Object:
        sensor = await self.get(kinds.SENSOR, name)
        conditions = sensor.get("status", {}).get("conditions", [])
        return next((found for found in conditions if found["type"] == kind), {})

    async def events(self, name: str = "core.timer") -> list[Object]:
        found = await self.client.list_objects(kinds.EVENT, self.namespace)
        return [event for event in found if event["involvedObject"].get("name") == name]

    async def run_pods(self, sensor: str = "core.timer", *, ready: bool = True, **container: Any) -> None:
        """Play kubelet: the pods run, and answer or not."""
        for pod in await self.pods(sensor):
            status = {
                "phase": "Running",
                "conditions": [
                    {"type": "PodScheduled", "status": "True"},
                    {"type": "Ready", "status": str(ready)},
                    {"type": "ContainersReady", "status": str(ready)},
                ],
                "containerStatuses": [
                    {
                        "name": "sensor",
                        "image": "registry.invalid/sensor:1",
                        "imageID": "",
                        "ready": ready,
                        "restartCount": 0,
                        "state": {"running": {"startedAt": "2026-11-23T12:00:00Z"}},
                        "started": True,
                        **container,
                    }
                ],
            }
            try:
                await self.client.merge(
                    kinds.POD, self.namespace, pod["metadata"]["name"], {"status": status}, subresource="status"
                )
            except ClusterError as error:
                if error.status != 404:  # it went since it was listed, as pods do when others replace them
                    raise


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Operator]:
    """An operator that has listed everything once; it is stopped at the end, and what it raised is raised."""
    operator = Operator(settings)
    work = asyncio.create_task(operator.run())
    ready = asyncio.create_task(operator.ready.wait())
    try:
        await asyncio.wait({work, ready}, timeout=150, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        assert operator.ready.is_set(), "the operator was not ready within 150 s"
        yield operator
    finally:
        ready.cancel()
        operator.stop()
        async with asyncio.timeout(150):
            await work


def settings_for(user: KubectlUser, nats: NatsServer, **changes: Any) -> Settings:
    """Settings for an operator that looks after the test's namespace only, and often."""
    chosen: dict[str, Any] = {
        "namespace": user.namespace,
        "watch_namespaces": (user.namespace,),
        "nats_url": nats.url,
        "metrics_port": 0,
        "liveness_port": 0,
        "bind_address": "127.0.0.1",
        "sweep_interval": "2s",
        "key_check_interval": "1s",
        "token_min_ttl": "5s",
        **changes,
    }
    return Settings(**chosen)


def secret_text(secret: Object, key: str) -> str:
    """What a Secret holds under ``key``."""
    return base64.b64decode(secret["data"][key]).decode()
