"""Through each fault: the same state on all sides afterwards, and no rule run wrongly meanwhile.

Kubernetes is in memory; the operator's Rule side, NATS and the sensors (the SDK, with a handler that checks) are real. What the
sensors run is judged all the time (``support.system_model``).
"""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_cluster import MemoryCluster, Object
from support.rule_side import RuleSideUnderTest, Stream, rule_side
from support.system_model import SystemModel, system_model

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import AckState, RuleEventType, RuleState, decode_rule, encode, rule_event_headers
from attune_kit.nats.connection import NatsConnection, NatsEndpoint, open_connection
from attune_operator.runtime.client import WatchEventType

pytestmark = [
    pytest.mark.nats,
    pytest.mark.timeout(900),
    # Sensors and operators are ended in the middle of connecting, where nobody has the socket yet.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore:loop is closed:ResourceWarning"),
]

TIMER, CRON = "attune-system/core.timer", "team/core.cron"
EVERYWHERE = {"namespaces": {"from": "All"}}


@pytest.fixture
def cluster() -> MemoryCluster:
    cluster = MemoryCluster()
    for name in ("attune-system", "default", "team"):
        cluster.namespace(name, team="blue")
    cluster.sensor("attune-system", "core.timer", "core.timer", rules=EVERYWHERE)
    cluster.sensor("team", "core.cron", "core.cron", rules=EVERYWHERE)
    for number in range(12):
        cluster.rule("default", f"r{number}", "core.timer" if number % 3 else "core.cron", interval=number + 1)
    return cluster


@pytest.fixture
async def it(cluster: MemoryCluster, nats_server: NatsServer) -> AsyncIterator[SystemModel]:
    async with system_model(cluster, nats_server.url, TIMER, CRON) as started:
        yield started


@contextlib.asynccontextmanager
async def operator(it: SystemModel, **options: float) -> AsyncIterator[RuleSideUnderTest]:
    async with rule_side(it.cluster, it.url, **options) as side:
        it.ready(side)
        yield side


def some_changes(cluster: MemoryCluster, rng: random.Random, count: int = 8) -> None:
    """Rules are made, changed, switched off and on, moved to the other Sensor, and deleted."""
    for _ in range(count):
        name = f"r{rng.randrange(16)}"
        if rng.random() < 0.25 and ("Rule", "default", name) in cluster.objects:
            cluster.delete("Rule", "default", name)
        else:
            kind = rng.choice(("core.timer", "core.timer", "core.cron"))
            cluster.rule("default", name, kind, enabled=rng.random() < 0.7, interval=rng.randrange(1, 1000))


@pytest.mark.parametrize("how", ["killed", "wiped"])
async def test_nats_is_killed_and_comes_back(it: SystemModel, nats_server: NatsServer, how: str) -> None:
    async with operator(it) as side:
        await it.agrees()
        running = {ref: sensor.running() for ref, sensor in it.sensors.items()}
        nats_server.kill()
        if how == "wiped":
            nats_server.wipe()
        await until(lambda: side.controller.summary(SensorRef.parse(TIMER)).synced is False)
        assert {ref: sensor.running() for ref, sensor in it.sensors.items()} == running, "what is known goes on"
        some_changes(it.cluster, random.Random(1))
        nats_server.start()
        await it.agrees()


@pytest.mark.parametrize("how", ["deleted", "purged"])
async def test_somebody_takes_the_stream_away(it: SystemModel, nats_server: NatsServer, how: str) -> None:
    async with operator(it, check_interval=0.2):
        await it.agrees()
        async with open_connection(NatsEndpoint(url=nats_server.url)) as connection:
            if how == "deleted":
                await connection.jetstream.delete_stream(subjects.RULES_STREAM)
            else:
                await connection.jetstream.purge_stream(subjects.RULES_STREAM)
        some_changes(it.cluster, random.Random(2))
        await it.agrees()


async def test_fifty_operators_killed_between_kubernetes_and_the_stream(it: SystemModel) -> None:
    rng = random.Random(3)
    for round_ in range(50):
        side = RuleSideUnderTest(it.cluster, it.url, seed=round_)
        side.start()
        it.ready(side)
        for _ in range(rng.randrange(1, 4)):
            some_changes(it.cluster, rng, 2)
            await asyncio.sleep(rng.random() * 0.02)
        await asyncio.sleep(rng.random() * 0.06)
        await side.stop()
        it.nothing_was_wrong()
    async with operator(it):
        await it.agrees()


async def test_two_operators_of_which_one_is_deaf(it: SystemModel) -> None:
    rng = random.Random(4)
    async with operator(it, check_interval=0.2, sweep_interval=0.5) as one, operator(it, sweep_interval=0.5) as two:
        await it.agrees()
        for round_ in range(30):
            one.sees_events, two.sees_events = round_ % 3 != 0, round_ % 3 == 0
            some_changes(it.cluster, rng, 3)
            await asyncio.sleep(0.05)
            it.nothing_was_wrong()
        one.sees_events = two.sees_events = True
        await it.agrees()


async def test_ten_sweeps_long_no_watch_event_comes(it: SystemModel) -> None:
    """Ten minutes, where a sweep is due each minute; here it is due each half second. Each list makes good what was missed."""
    rng = random.Random(5)
    async with operator(it, sweep_interval=0.5) as side:
        await it.agrees()
        side.sees_events = False
        lists = it.cluster.lists
        while it.cluster.lists < lists + 3 * 10:
            some_changes(it.cluster, rng, 2)
            await asyncio.sleep(0.1)
        await it.agrees()


async def test_sensors_that_end_and_begin_anew_at_any_moment(it: SystemModel) -> None:
    rng = random.Random(6)
    async with operator(it):
        for _ in range(15):
            some_changes(it.cluster, rng, 2)
            await asyncio.sleep(rng.random() * 0.1)
            await it.restart_sensor(rng.choice((TIMER, CRON)))
        await it.agrees()


class TestRepeatedAndReordered:
    async def test_watch_events(self, it: SystemModel) -> None:
        """The API server's watch never does that, but what stands between (a proxy, kopf's reconnect with an older list) may."""
        told: list[tuple[WatchEventType, Object]] = []
        it.cluster.onlookers.append(lambda kind, item: told.append((kind, item)))
        rng = random.Random(7)
        async with operator(it) as side:
            await it.agrees()
            for _ in range(20):
                some_changes(it.cluster, rng, 3)
                for kind, item in rng.sample(told, min(6, len(told))):
                    if "trigger" in item["spec"]:
                        side.controller.observe_rule(kind, item)
                await asyncio.sleep(0.03)
            await it.agrees()

    async def test_rule_messages(self, it: SystemModel, nats_server: NatsServer) -> None:
        rng = random.Random(8)
        past: list[tuple[str, RuleState]] = []
        async with operator(it, check_interval=0.2) as side:
            await it.agrees()
            for _ in range(6):
                past.extend(_live(side))
                names = [key[2] for key in it.cluster.objects if key[0] == "Rule"]
                for name in rng.sample(names, 4):
                    kind = it.cluster.get("Rule", "default", name)["spec"]["trigger"]["type"]
                    it.cluster.rule("default", name, kind, enabled=True, interval=rng.randrange(1, 1000))
                await it.agrees()
                # What was published once comes again, in any order, a part of it twice, and old tombstones with it.
                async with open_connection(NatsEndpoint(url=nats_server.url)) as connection:
                    for subject, state in rng.choices(past, k=12):
                        event = rng.choice((RuleEventType.UPDATED, RuleEventType.UPDATED, RuleEventType.DELETED))
                        if event is RuleEventType.DELETED and not _outdated(it, state):
                            event = (
                                RuleEventType.UPDATED
                            )  # a tombstone of the present state is an order, not a repetition
                        await _repeat(connection, subject, state, event)
                await it.agrees()

    async def test_a_message_that_one_of_ours_follows_at_once(self, it: SystemModel, nats_server: NatsServer) -> None:
        """The stream's newest message is ours then, and still somebody else wrote."""
        async with operator(it, check_interval=0.5) as side:
            await it.agrees()
            past = _live(side)
            it.cluster.rule("default", "r1", "core.timer", interval=77)
            await it.agrees()
            uid = it.cluster.get("Rule", "default", "r1")["metadata"]["uid"]
            subject, state = next((subject, state) for subject, state in past if state.uid == uid)
            async with open_connection(NatsEndpoint(url=nats_server.url)) as connection:
                await _repeat(connection, subject, state, RuleEventType.UPDATED)
                it.cluster.rule("default", "r2", "core.timer", interval=78)
            await it.agrees()

    async def test_acks(self, it: SystemModel, nats_server: NatsServer) -> None:
        async with operator(it) as side:
            await it.agrees()
            rule = it.cluster.rule("default", "r1", "core.timer", interval=1)
            it.cluster.rule("default", "r1", "core.timer", interval=2)
            await it.agrees()
            uid, said = rule["metadata"]["uid"], it.cluster.get("Rule", "default", "r1")["status"]
            stream = Stream(nats_server.url)
            for generation, state in ((1, AckState.REJECTED), (2, AckState.STOPPED), (1, AckState.ACTIVE)):
                await stream.ack(TIMER, uid, generation, state, "an old word")
                await stream.ack(CRON, uid, generation + 5, AckState.REJECTED, "a stranger's word")
            # The latest word of the sensor is on an older generation: the newest is not confirmed, and that is all.
            await until(lambda: it.cluster.condition("default", "r1", "Active") == ("False", "AwaitingSensor"))
            assert "Rejected" not in str(it.cluster.get("Rule", "default", "r1")["status"])
            it.sensors[TIMER].repeat_acks()
            await it.agrees()
            assert it.cluster.get("Rule", "default", "r1")["status"]["conditions"][0] == said["conditions"][0]
            assert side.controller.summary(SensorRef.parse(TIMER)).rejected == 0


def _live(side: RuleSideUnderTest) -> list[tuple[str, RuleState]]:
    """What the rule stream holds, as the operator knows it: subjects and states."""
    assert side.controller.connected
    entries = side.controller._cache.entries()
    return [(e.subject, decode_rule(e.body)) for rule in entries for e in rule.stream if not e.tombstone]


def _outdated(it: SystemModel, state: RuleState) -> bool:
    return any(
        item["metadata"]["uid"] == state.uid and item["metadata"]["generation"] > state.generation
        for item in it.cluster.all("Rule")
    )


async def _repeat(connection: NatsConnection, subject: str, state: RuleState, event: RuleEventType) -> None:
    headers = rule_event_headers(event, state, time=datetime.now(UTC), event_id=uuid.uuid4())
    await connection.jetstream.publish(subject, encode(state), headers=headers)
