"""ConfigMaps that change while the Kubernetes sensor is killed again and again. For an integration test and for a soak."""

import asyncio
import collections
import random
from pathlib import Path
from typing import Any

from support.api_process import ApiProcess
from support.eventually import until
from support.nats_server import NatsServer
from support.sensor_process import SensorProcess, drained, serve, stored_events

from attune_cluster.apiserver import ApiServer
from attune_contract.identity import SensorRef
from attune_operator.resources.kinds import CONFIG_MAP
from attune_operator.runtime.kube_client import KubeClient

REF = SensorRef("attune-system", "core.kubernetes")
KILLS = 3
_AT_ONCE = 10


def kubernetes_process(
    directory: Path, *, server: ApiServer, api: ApiProcess, nats: NatsServer, **variables: str
) -> SensorProcess:
    """The Kubernetes sensor, with the API server's own kubeconfig."""
    return SensorProcess(
        "attune_kubernetes",
        directory=directory,
        ref=REF,
        trigger_type="core.kubernetes",
        api=api,
        nats=nats,
        KUBECONFIG=str(server.kubeconfig),
        **variables,
    )


async def change_all(
    client: KubeClient, namespace: str, names: list[str], *, label: str, versions: dict[str, str]
) -> None:
    """Change each ConfigMap once, in any order, and note its version."""
    waiting = collections.deque(random.sample(names, len(names)))

    async def work() -> None:
        while waiting:
            name = waiting.popleft()
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": namespace},
                "data": {"value": label},
            }
            written = await client.apply(CONFIG_MAP, body)
            versions[name] = written["metadata"]["resourceVersion"]

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_AT_ONCE):
            tasks.create_task(work())


async def go_through(
    directory: Path,
    *,
    server: ApiServer,
    client: KubeClient,
    nats: NatsServer,
    namespace: str,
    number: int,
    lose_state: bool = False,
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Make so many ConfigMaps and change all of them again and again, three times while the sensor is killed in the middle; it
    is started again before the changes end, or after.

    Args:
        directory: where everything is kept.
        server: the API server.
        client: with the right to write ConfigMaps.
        nats: the NATS server.
        namespace: where the ConfigMaps are.
        number: how many.
        lose_state: take the sensor's volume away while it is down, as when its pod moves. What it had spooled is delivered first.

    Returns:
        The version of each ConfigMap at the end, and the events that are stored.
    """
    api = ApiProcess(directory / "api")
    await asyncio.to_thread(api.start)
    sensor = kubernetes_process(directory, server=server, api=api, nats=nats)
    stream = await sensor.stream()
    rule = sensor.rule(1, {"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": "storm!=no"}, namespace=namespace)
    names = [f"storm-{n:04}" for n in range(number)]
    versions: dict[str, str] = {}
    try:
        await sensor.start()
        await serve(stream, [rule], within=60)
        await change_all(client, namespace, names, label="made", versions=versions)
        for kill in range(KILLS):
            changes = asyncio.create_task(
                change_all(client, namespace, names, label=f"change {kill}", versions=versions)
            )
            await asyncio.sleep(random.uniform(0.1, 1.0))  # anywhere in the middle
            await sensor.kill()
            if lose_state:
                (sensor.spool / "watches.json").unlink(missing_ok=True)
            if kill % 2 == 0:
                await changes
            await sensor.start()
            await changes
        await change_all(client, namespace, names[: number // 2], label="last", versions=versions)
        wanted = set(versions.items())

        async def all_stored() -> bool:
            found = await stored_events(api, rule_uid=rule.uid)
            return wanted <= {(event["payload"]["name"], event["payload"]["resourceVersion"]) for event in found}

        await until(all_stored, within=120, every=0.5)
        assert await sensor.stop() == 0
        await drained(sensor, within=10)
        stored = await stored_events(api, rule_uid=rule.uid)
    finally:
        await sensor.kill()
        await stream.close()
        await asyncio.to_thread(api.stop)
    return versions, stored


def judge(versions: dict[str, str], stored: list[dict[str, Any]], *, every_change: bool) -> None:
    """The last state of each is reported, and no state twice; with ``every_change`` also every one in between."""
    seen = [(event["payload"]["name"], event["payload"]["resourceVersion"]) for event in stored]
    assert len(seen) == len(set(seen)), "a state was reported twice"
    assert set(versions.items()) <= set(seen), "the last state of some was not reported"
    if every_change:
        half = len(versions) // 2
        counts = collections.Counter(name for name, _ in seen)
        assert counts == {name: 1 + KILLS + (n < half) for n, name in enumerate(sorted(versions))}
