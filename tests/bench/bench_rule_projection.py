"""How fast 10,000 Rules of a real kube-apiserver reach an empty rule stream, against a bare loop.

The bare loop knows nothing: it lists the same Rules from the same API server with the same client, and publishes one message
for each with nats-py's ``publish_async``, with the same headers and the same compare-and-set. The operator lists, binds, checks
parameters by the Sensor's schema, compares with the stream, publishes, and updates its caches. ``ratio`` is its rate divided by
the bare loop's; ``publishing_ratio`` leaves the listing out on both sides.
"""

import asyncio
import contextlib
import json
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
from support.nats_server import NatsServer
from support.quiet import quiet

from attune_cluster.apiserver import ApiServer
from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import RuleEventType, RuleState, encode, rule_event_headers
from attune_operator.resources import kinds
from attune_operator.rules.options import RulesOptions
from attune_operator.rules.records import parse_time
from attune_operator.rules.side import RuleSide
from attune_operator.runtime import kube_client
from attune_operator.runtime.cluster import KubeCluster
from attune_operator.runtime.events import EventRecorder
from attune_operator.runtime.kube_client import KubeClient
from attune_operator.streams.definitions import rules_stream

RULES = 10_000
ROUNDS = 3
NAMESPACE = "default"
SENSOR = SensorRef(NAMESPACE, "core.timer")
CRDS = Path(__file__).parents[2] / "deploy" / "crds"

TRIGGER = {
    "name": "core.intervaltimer",
    "aliases": ["core.timer"],
    "parametersSchema": {
        "type": "object",
        "required": ["interval"],
        "properties": {
            "interval": {"type": "number", "exclusiveMinimum": 0},
            "unit": {"enum": ["milliseconds", "seconds", "minutes", "hours"]},
        },
        "additionalProperties": False,
    },
}


@contextlib.asynccontextmanager
async def kubernetes(directory: Path) -> AsyncIterator[KubeClient]:
    """An API server with our definitions, and a client that may do everything."""
    import yaml

    with ApiServer(directory) as server:
        for file in sorted(CRDS.glob("*.yaml")):
            server.api().request(
                "POST",
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                yaml.safe_load(file.read_text(encoding="utf-8")),
            )
        os.environ["KUBECONFIG"] = str(server.kubeconfig)
        client = KubeClient(kube_client.load_access())
        try:
            await _served(client)
            yield client
        finally:
            await client.close()


@contextlib.asynccontextmanager
async def with_rules(rules: int) -> AsyncIterator[tuple[KubeClient, NatsServer, Path]]:
    """An API server with so many Rules, a NATS server, and a folder for what else is needed."""
    quiet()
    with tempfile.TemporaryDirectory() as directory:
        async with kubernetes(Path(directory) / "kubernetes") as client:
            await make_rules(client, rules)
            server = NatsServer(Path(directory))
            server.start()
            try:
                yield client, server, Path(directory)
            finally:
                server.stop()


async def _served(client: KubeClient) -> None:
    for kind in (kinds.RULE, kinds.SENSOR):
        for _ in range(200):
            with contextlib.suppress(Exception):
                await client.list_objects(kind)
                break
            await asyncio.sleep(0.05)


async def make_rules(client: KubeClient, count: int) -> None:
    """One Sensor, and Rules that all differ."""
    await client.create(
        kinds.SENSOR,
        {
            "apiVersion": "attune.dev/v1alpha1",
            "kind": "Sensor",
            "metadata": {"name": SENSOR.name, "namespace": NAMESPACE},
            "spec": {"image": "none", "triggerTypes": [TRIGGER]},
        },
    )
    slots = asyncio.Semaphore(16)

    async def make(number: int) -> None:
        async with slots:
            await client.create(kinds.RULE, rule(number))

    await asyncio.gather(*(make(number) for number in range(count)))


def rule(number: int, **parameters: Any) -> dict[str, Any]:
    """A Rule of the bench."""
    return {
        "apiVersion": "attune.dev/v1alpha1",
        "kind": "Rule",
        "metadata": {"name": f"rule-{number}", "namespace": NAMESPACE},
        "spec": {
            "trigger": {
                "type": "core.timer",
                "parameters": {"interval": number + 1, "unit": "seconds", **parameters},
            }
        },
    }


async def bare(client: KubeClient, url: str) -> tuple[float, float]:
    """Seconds of the bare loop: altogether, and of its publishing."""
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    await jetstream.add_stream(rules_stream(replicas=1))
    began = time.perf_counter()
    listed = await client.list_objects(kinds.RULE)
    publishing = time.perf_counter()
    for item in listed:
        metadata, trigger = item["metadata"], item["spec"]["trigger"]
        state = RuleState(
            uid=metadata["uid"],
            namespace=metadata["namespace"],
            name=metadata["name"],
            generation=metadata["generation"],
            enabled=True,
            trigger_type="core.intervaltimer",
            parameters=trigger["parameters"],
            created_at=parse_time(metadata["creationTimestamp"]),
        )
        headers = rule_event_headers(RuleEventType.CREATED, state, time=datetime.now(UTC), event_id=uuid.uuid4())
        headers["Nats-Expected-Last-Subject-Sequence"] = "0"
        await jetstream.publish_async(subjects.rule_subject(SENSOR, state.uid), encode(state), headers=headers)
    await jetstream.publish_async_completed()
    ended = time.perf_counter()
    stored = (await jetstream.stream_info(subjects.RULES_STREAM)).state.messages
    if stored != len(listed):
        raise RuntimeError(f"the bare loop stored {stored} of {len(listed)} messages")
    await jetstream.delete_stream(subjects.RULES_STREAM)
    await connection.close()
    return ended - began, ended - publishing


async def projected(client: KubeClient, url: str) -> tuple[float, float]:
    """Seconds of the operator: from its start to the whole stream, and from its first message on."""
    cluster = KubeCluster(client, recorder=EventRecorder(client, instance="bench"))
    controller = RuleSide(cluster=cluster, nats_url=url, options=RulesOptions())
    began = time.perf_counter()
    task = asyncio.create_task(controller.run())
    first = 0.0
    while (live := controller.live_messages) < RULES:
        if live and not first:
            first = time.perf_counter()
        if task.done():
            await task
        await asyncio.sleep(0.001)
    ended = time.perf_counter()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return ended - began, ended - first


async def _wipe(url: str) -> None:
    connection = await nats.connect(url)
    for stream in await connection.jetstream().streams_info():
        await connection.jetstream().delete_stream(stream.config.name)
    await connection.close()


async def run() -> dict[str, object]:
    """The result: rates in Rules a second, and their ratio. The rounds alternate, and the median of the ratios counts."""
    rounds = []
    async with with_rules(RULES) as (client, server, _):
        for _ in range(ROUNDS):
            reference, reference_publishing = await bare(client, server.url)
            await _wipe(server.url)
            operator, operator_publishing = await projected(client, server.url)
            await _wipe(server.url)
            rounds.append(
                {
                    "rules_per_second": round(RULES / operator),
                    "reference_per_second": round(RULES / reference),
                    "ratio": round(reference / operator, 3),
                    "publishing_ratio": round(reference_publishing / operator_publishing, 3),
                }
            )
    rounds.sort(key=lambda each: each["ratio"])
    return {**rounds[ROUNDS // 2], "rules": RULES, "at_least": 0.5, "rounds": rounds}


if __name__ == "__main__":
    print(json.dumps({"rule_projection": asyncio.run(run())}, indent=2))
