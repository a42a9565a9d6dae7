"""100,000 Rules and 100 Sensors in a real kube-apiserver, sensors that ack, and a user who changes one Rule after another."""

import asyncio
import base64
import contextlib
import copy
import json
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from support.eventually import until
from support.nats_client import connect
from support.rule_load import SCHEMA

from attune_cluster.apiserver import ApiServer
from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import Ack, AckState, decode_rule, encode, is_tombstone
from attune_kit.kubernetes.access import find_access
from attune_kit.kubernetes.client import KubernetesClient, KubernetesError
from attune_operator.resources import kinds
from attune_operator.resources.kinds import Object
from attune_operator.runtime.client import ClusterError
from attune_operator.runtime.kube_client import KubeClient

_CRDS: Final = Path(__file__).parents[2] / "deploy" / "crds"
#: Objects that are written to etcd in one transaction; it takes up to 128.
_TOGETHER: Final = 100
_NAMESPACES: Final = tuple(f"team-{number}" for number in range(10))


def place(number: int) -> tuple[str, str]:
    """Namespace and name of a Rule."""
    return _NAMESPACES[number % len(_NAMESPACES)], f"rule-{number}"


def rule(number: int, *, sensors: int, interval: int = 0) -> Object:
    """A Rule; all differ."""
    namespace, name = place(number)
    return {
        "apiVersion": "attune.dev/v1alpha1",
        "kind": "Rule",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "trigger": {
                "type": f"load.type-{number % sensors}",
                "parameters": {"interval": interval or number + 1, "unit": "seconds"},
            }
        },
    }


def _sensor(number: int) -> Object:
    return {
        "apiVersion": "attune.dev/v1alpha1",
        "kind": "Sensor",
        "metadata": {"name": f"sensor-{number:03}", "namespace": _NAMESPACES[number % len(_NAMESPACES)]},
        "spec": {
            "image": "registry.invalid/sensor:1",
            "rules": {"namespaces": {"from": "All"}},
            "triggerTypes": [{"name": f"load.type-{number}", "parametersSchema": SCHEMA}],
        },
    }


@contextlib.asynccontextmanager
async def kubernetes(directory: Path) -> AsyncIterator[tuple[ApiServer, KubeClient]]:
    """An API server with our definitions."""
    server = ApiServer(directory)
    await asyncio.to_thread(server.start)
    try:
        for file in sorted(_CRDS.glob("*.yaml")):
            definition = yaml.safe_load(file.read_text())
            server.api().request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        client = KubeClient(find_access({"KUBECONFIG": str(server.kubeconfig)}))

        async def served() -> bool:
            return await client.serves(kinds.RULE) and await client.serves(kinds.SENSOR)

        await until(served, within=60)
        yield server, client
        await client.close()
    finally:
        await asyncio.to_thread(server.stop)


async def make_first(client: KubeClient, *, sensors: int) -> None:
    """Make the namespaces, the Sensors, and one Rule of each Sensor."""
    for name in _NAMESPACES:
        await client.create(kinds.NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for number in range(sensors):
        await client.create(kinds.SENSOR, _sensor(number))
        await client.create(kinds.RULE, rule(number, sensors=sensors))


async def multiply(server: ApiServer, *, sensors: int, rules: int) -> None:
    """Write copies of the first Rules into etcd, as the API server stored them: each with its name, uid and parameters.

    Creating them one by one would take the API server many minutes on two cores.
    """
    async with aiohttp.ClientSession(base_url=f"http://{server.etcd}/v3/kv/", raise_for_status=True) as etcd:
        first = []
        for number in range(sensors):
            async with etcd.post("range", json={"key": _key(number)}) as answer:
                [found] = (await answer.json())["kvs"]
            first.append(json.loads(base64.b64decode(found["value"])))
        for begin in range(sensors, rules, _TOGETHER):
            puts = []
            for number in range(begin, min(begin + _TOGETHER, rules)):
                body = copy.copy(first[number % sensors])
                made = rule(number, sensors=sensors)
                body["metadata"] = body["metadata"] | made["metadata"] | {"uid": str(uuid.uuid4())}
                body["spec"] = body["spec"] | made["spec"]
                value = base64.b64encode(json.dumps(body, separators=(",", ":")).encode()).decode()
                puts.append({"requestPut": {"key": _key(number), "value": value}})
            async with etcd.post("txn", json={"success": puts}) as answer:
                assert (await answer.json())["succeeded"]


async def serves(client: KubeClient, rules: int) -> bool:
    """Whether the API server has so many Rules, and lets them be watched: its cache of them is filled."""
    try:
        found = await client.call("GET", kinds.RULE.path(None), query={"limit": "1"})
    except ClusterError:
        return False
    reader = KubernetesClient(client.access, user_agent="test")
    query = {"watch": "true", "resourceVersion": found["metadata"]["resourceVersion"], "timeoutSeconds": "1"}
    try:
        async with reader.stream(kinds.RULE.path(None), query, silence=30):
            return int(found["metadata"]["remainingItemCount"]) == rules - 1
    except KubernetesError:
        return False
    finally:
        await reader.close()


def _key(number: int) -> str:
    namespace, name = place(number)
    return base64.b64encode(f"/registry/attune.dev/rules/{namespace}/{name}".encode()).decode()


async def run_pods(client: KubeClient, *, sensors: int) -> None:
    """Play kubelet and the controllers: every Sensor's Deployment says that its pod is ready.

    Raises:
        LookupError: the operator has not made all of them yet.
    """
    deployments = [d for name in _NAMESPACES for d in await client.list_objects(kinds.DEPLOYMENT, name)]
    if len(deployments) < sensors:
        raise LookupError(f"{len(deployments)} of {sensors} Deployments")
    for deployment in deployments:
        metadata = deployment["metadata"]
        status = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
        await client.merge(
            kinds.DEPLOYMENT,
            metadata["namespace"],
            metadata["name"],
            {"status": status | {"observedGeneration": metadata["generation"]}},
            subresource="status",
        )


class Sensors:
    """What sensors do on NATS: they read the messages of Rules and ack them.

    Attributes:
        rules: the generation of each Rule that was read last, by uid.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.rules: dict[str, int] = {}

    async def run(self) -> None:
        """Read and ack until cancelled."""
        client = await connect(self._url)

        async def answer(message: Any) -> None:
            if is_tombstone(message.headers):
                return
            state = decode_rule(message.data)
            binding, uid = subjects.split_binding(message.subject)
            self.rules[uid] = state.generation
            word = AckState.ACTIVE if state.enabled else AckState.STOPPED
            ack = Ack(rule_uid=uid, generation=state.generation, state=word, instance="pod-0", at=datetime.now(UTC))
            await client.publish(f"attune.acks.{binding}.{uid}", encode(ack))

        await client.subscribe(subjects.ALL_RULES, cb=answer, pending_msgs_limit=-1, pending_bytes_limit=-1)
        try:
            await asyncio.Event().wait()
        finally:
            await client.close()


class Changes:
    """A user who changes one Rule after another, and how long each took until it was on the rule stream.

    When a message was stored is what the stream says. Those who read it here are one program in place of 100 pods, and late.

    Attributes:
        seconds: from the API server's answer to the message; 0 when it came first.
        whole: the same from the request on.
    """

    def __init__(self, client: KubeClient, sensors: Sensors, url: str, *, count: int, rules: int) -> None:
        self._client = client
        self._sensors = sensors
        self._url = url
        self._count = count
        self._rules = rules
        self._number = 0
        self.seconds: list[float] = []
        self.whole: list[float] = []

    async def run(self, *, pause: float) -> None:
        """Change Rules until cancelled; ``pause`` seconds between two."""
        nats = await connect(self._url)
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    group.create_task(self._one(nats.jetstream(timeout=60)))
                    await asyncio.sleep(pause)
        finally:
            await nats.close()

    async def _one(self, jetstream: Any) -> None:
        self._number += 1
        number = self._number * 7919 % self._rules
        namespace, name = place(number)
        spec = rule(number, sensors=self._count, interval=1_000_000 + self._number)["spec"]
        began = time.time()
        changed = await self._client.merge(kinds.RULE, namespace, name, {"spec": spec})
        answered = time.time()
        assert changed is not None
        uid, generation = changed["metadata"]["uid"], changed["metadata"]["generation"]
        await until(lambda: self._sensors.rules.get(uid, 0) >= generation, within=120, every=0.2)
        sensor = SensorRef(*changed["status"]["sensor"].split("/"))
        message = await jetstream.get_last_msg(subjects.RULES_STREAM, subjects.rule_subject(sensor, uid))
        assert decode_rule(message.data).generation == generation
        self.seconds.append(max(0.0, message.time.timestamp() - answered))
        self.whole.append(message.time.timestamp() - began)

    def figures(self) -> dict[str, float]:
        """Milliseconds."""
        found = sorted(self.seconds)
        whole = sorted(self.whole)
        if not found:
            return {"changes": 0}
        return {
            "changes": len(found),
            "p50": round(found[len(found) // 2] * 1000, 1),
            "p99": round(found[len(found) * 99 // 100] * 1000, 1),
            "max": round(found[-1] * 1000, 1),
            "p99_with_the_request": round(whole[len(whole) * 99 // 100] * 1000, 1),
        }
