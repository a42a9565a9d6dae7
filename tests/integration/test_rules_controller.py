"""The Rule side with a real NATS server: from a Rule to the stream, from an ack to the status."""

import json

import pytest
from support.nats_server import NatsServer
from support.rule_cluster import MemoryCluster
from support.rule_side import Stream, rule_side
from support.until import until

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import AckState

pytestmark = pytest.mark.nats

TIMER = {
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
REF = "attune-system/core.timer"


@pytest.fixture
def cluster() -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.namespace("attune-system")
    cluster.namespace("default")
    cluster.sensor("attune-system", "core.timer", TIMER, rules={"namespaces": {"from": "All"}})
    return cluster


@pytest.fixture
def stream(nats_server: NatsServer) -> Stream:
    return Stream(nats_server.url)


async def test_a_rule_that_was_there_first_is_published_with_its_canonical_type(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    rule = cluster.rule("default", "echo", "core.timer", interval=1, unit="seconds")
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
        [(subject, state)] = (await stream.states()).items()
        await until(lambda: cluster.condition("default", "echo", "Accepted") == ("True", "Accepted"))
    assert subject == f"attune.rules.attune-system.core_timer.{rule['metadata']['uid']}"
    assert (state.name, state.generation, state.enabled) == ("echo", 1, True)
    assert state.trigger_type == "core.intervaltimer"
    assert state.parameters == {"interval": 1, "unit": "seconds"}


async def test_active_follows_the_sensors_word_and_its_pods(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
        uid = cluster.rule("default", "echo", interval=1)["metadata"]["uid"]
        await until(lambda: cluster.condition("default", "echo", "Active") == ("False", "AwaitingSensor"))
        side.ready(REF)
        await until(lambda: "has not confirmed generation 1" in cluster.message("default", "echo", "Active"))
        await stream.ack(REF, uid, 1)
        await until(lambda: cluster.condition("default", "echo", "Active") == ("True", "Active"))
        assert cluster.get("Rule", "default", "echo")["status"]["sensor"] == REF

        cluster.rule("default", "echo", interval=2)
        await until(lambda: cluster.condition("default", "echo", "Active") == ("False", "AwaitingSensor"))
        await stream.ack(REF, uid, 2, AckState.REJECTED, "intervals of 2 s are not for me")
        await until(lambda: cluster.condition("default", "echo", "Active") == ("False", "Rejected"))
        assert cluster.message("default", "echo", "Active") == "intervals of 2 s are not for me"

        cluster.rule("default", "echo", interval=2, enabled=False)
        await until(lambda: cluster.condition("default", "echo", "Active") == ("False", "Disabled"))
        summary = side.controller.summary(SensorRef.parse(REF))
        assert (summary.bound, summary.active, summary.rejected) == (1, 0, 0)
    assert [json.loads(m.data)["enabled"] for m in (await stream.messages()).values()] == [False]


async def test_a_deleted_rule_leaves_a_tombstone(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    uid = cluster.rule("default", "echo", interval=1)["metadata"]["uid"]
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
        cluster.delete("Rule", "default", "echo")
        await until(lambda: side.controller.summary(SensorRef.parse(REF)).bound == 0)
        await stream.shows(Stream.types, ["dev.attune.rule.deleted"])
    [message] = (await stream.messages()).values()
    assert message.subject == subjects.rule_subject(SensorRef.parse(REF), uid)
    assert message.headers["Nats-TTL"] == "3600s"
