"""Whatever fails, the rule stream and Kubernetes agree afterwards, and nothing is deleted or overwritten wrongly meanwhile."""

import asyncio
import random
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_cluster import MemoryCluster
from support.rule_side import RuleSideUnderTest, Stream, rule_side

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import RuleEventType, decode_rule, encode, rule_event_headers
from attune_kit.nats.connection import NatsEndpoint, open_connection
from attune_operator.rules.history import HistoryEntry, read_history
from attune_operator.streams.definitions import ensure_stream, rules_stream

pytestmark = pytest.mark.nats

REF = "attune-system/core.timer"
SENSOR = SensorRef.parse(REF)


@pytest.fixture
def cluster() -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.namespace("attune-system")
    cluster.namespace("default")
    cluster.sensor("attune-system", "core.timer", "core.timer", rules={"namespaces": {"from": "All"}})
    return cluster


@pytest.fixture
def stream(nats_server: NatsServer) -> Stream:
    return Stream(nats_server.url)


def wanted(cluster: MemoryCluster) -> dict[str, tuple[int, bool]]:
    """What the rule stream must say: subject → generation, enabled."""
    return {
        subjects.rule_subject(SENSOR, rule["metadata"]["uid"]): (
            rule["metadata"]["generation"],
            rule["spec"]["enabled"],
        )
        for rule in cluster.all("Rule")
    }


async def told(stream: Stream) -> dict[str, tuple[int, bool]]:
    """What the rule stream says."""
    return {subject: (state.generation, state.enabled) for subject, state in (await stream.states()).items()}


def some_rules(cluster: MemoryCluster, count: int = 20) -> None:
    for number in range(count):
        cluster.rule("default", f"r{number}", "core.timer", interval=number + 1)


async def test_nats_killed_and_started_again(cluster: MemoryCluster, nats_server: NatsServer, stream: Stream) -> None:
    some_rules(cluster)
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
        nats_server.kill()
        await until(lambda: side.controller.summary(SENSOR).reason == "NatsUnavailable")
        assert side.controller.summary(SENSOR).synced is False
        cluster.rule("default", "r1", "core.timer", interval=99)
        cluster.rule("default", "new", "core.timer", interval=1)
        cluster.delete("Rule", "default", "r2")
        nats_server.start()
        await stream.shows(told, wanted(cluster))
        await side.synced(REF)


async def test_nats_away_when_the_operator_starts(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    some_rules(cluster)
    nats_server.stop()
    async with rule_side(cluster, nats_server.url) as side:
        await until(lambda: side.controller.summary(SENSOR).reason == "NatsUnavailable")
        await until(lambda: "cannot be reached" in cluster.message("default", "r0", "Active"))
        assert cluster.condition("default", "r0", "Accepted") == ("True", "Accepted")
        nats_server.start()
        await stream.shows(told, wanted(cluster))
        await side.synced(REF)


async def test_a_restart_of_the_operator_while_nats_is_away_takes_nothing_back(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    uid = cluster.rule("default", "echo", "core.timer")["metadata"]["uid"]
    async with rule_side(cluster, nats_server.url) as side:
        side.ready(REF)
        await side.synced(REF)
        await stream.ack(REF, uid, 1)
        await until(lambda: cluster.condition("default", "echo", "Active") == ("True", "Active"))
    nats_server.stop()
    cluster.rule("default", "other", "core.timer")
    async with rule_side(cluster, nats_server.url) as side:
        side.ready(REF)
        await until(lambda: cluster.condition("default", "other", "Active") == ("False", "AwaitingSensor"))
        assert cluster.condition("default", "echo", "Active") == ("True", "Active")


async def test_the_storage_of_jetstream_wiped(cluster: MemoryCluster, nats_server: NatsServer, stream: Stream) -> None:
    some_rules(cluster)
    uid = cluster.rule("default", "echo", "core.timer")["metadata"]["uid"]
    async with rule_side(cluster, nats_server.url, acks_grace=600.0) as side:
        side.ready(REF)
        await side.synced(REF)
        await stream.ack(REF, uid, 1)
        await until(lambda: cluster.condition("default", "echo", "Active") == ("True", "Active"))
        transition = cluster.get("Rule", "default", "echo")["status"]["conditions"][1]["lastTransitionTime"]
        nats_server.wipe()
        await until(lambda: side.controller.summary(SENSOR).synced is False)
        nats_server.start()
        await stream.shows(told, wanted(cluster))
        await side.synced(REF)
        await stream.ack(REF, uid, 1)  # as the sensor does once it sees the new stream
        await asyncio.sleep(0)
        assert cluster.condition("default", "echo", "Active") == ("True", "Active")
        assert cluster.get("Rule", "default", "echo")["status"]["conditions"][1]["lastTransitionTime"] == transition


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "deleted and made again"])
async def test_the_stream_deleted_under_a_live_connection(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream, again: bool
) -> None:
    some_rules(cluster)
    async with rule_side(cluster, nats_server.url, check_interval=3600.0) as side:
        await side.synced(REF)
        async with open_connection(NatsEndpoint(url=nats_server.url)) as connection:
            await connection.jetstream.delete_stream(subjects.RULES_STREAM)
            if again:
                await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        # The server's advisory tells of it; the periodic look is an hour away.
        await stream.shows(told, wanted(cluster))


async def test_a_stream_that_was_purged_is_filled_again(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    some_rules(cluster)
    async with rule_side(cluster, nats_server.url, check_interval=0.1) as side:
        await side.synced(REF)
        async with open_connection(NatsEndpoint(url=nats_server.url)) as connection:
            await connection.jetstream.purge_stream(subjects.RULES_STREAM)
        await stream.shows(told, wanted(cluster))


async def test_what_somebody_else_writes_into_the_stream_is_mended(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    some_rules(cluster, 3)
    async with rule_side(cluster, nats_server.url, check_interval=0.1) as side:
        await side.synced(REF)
        subject, state = next(iter((await stream.states()).items()))
        await stream.publish(subject, b"{rubbish", {"ce-type": "whatever"})
        await stream.publish(subject.rpartition(".")[0] + ".00000000-dead-beef", b"{rubbish")
        await stream.publish("attune.rules.not.like.a.rule", b"")
        await stream.shows(lambda s: _mended(s, subject), (state.generation, sorted(wanted(cluster))))


async def _mended(stream: Stream, subject: str) -> tuple[int, list[str]]:
    messages = await stream.messages()
    live = sorted(
        name
        for name, message in messages.items()
        if message.headers and message.headers["ce-type"] != "dev.attune.rule.deleted"
    )
    try:
        return decode_rule(messages[subject].data).generation, live
    except ValueError:
        return -1, live


async def test_missed_watch_events_are_made_good_by_the_next_list(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    some_rules(cluster)
    async with rule_side(cluster, nats_server.url, sweep_interval=1.0) as side:
        await side.synced(REF)
        side.sees_events = False
        cluster.rule("default", "r1", "core.timer", interval=99)
        cluster.rule("default", "r3", "core.timer", enabled=False, interval=1)
        cluster.delete("Rule", "default", "r2")
        cluster.rule("default", "r2", "core.timer", interval=7)  # the same name, another uid
        cluster.rule("default", "new", "core.timer", interval=1)
        await stream.shows(told, wanted(cluster))
        await until(lambda: cluster.condition("default", "new", "Accepted") == ("True", "Accepted"))


async def test_nothing_is_buried_while_kubernetes_cannot_be_listed(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    some_rules(cluster)
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
    before = await told(stream)
    cluster.reachable = False
    async with rule_side(cluster, nats_server.url) as side:
        # The watch tells of one Rule only, as it does when it has just begun.
        side.controller.observe_sensor(None, cluster.get("Sensor", "attune-system", "core.timer"))
        side.controller.observe_rule(None, cluster.get("Rule", "default", "r0"))
        lists = cluster.lists
        await until(lambda: side.controller.connected)
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert side.controller.summary(SENSOR).synced is None
        assert await told(stream) == before
        assert cluster.lists == lists
        cluster.reachable = True
        await side.synced(REF)
        assert await told(stream) == before


async def test_what_is_known_only_in_part_moves_no_rule_and_judges_none(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    """An operator that starts is told of one object after the other: here of all but the Sensor that serves the Rules."""
    cluster.namespace("late")
    younger = cluster.sensor("late", "core.timer", "core.timer", rules={"namespaces": {"from": "All"}})
    some_rules(cluster, 3)
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
        await until(lambda: cluster.condition("default", "r2", "Accepted") == ("True", "Accepted"))
    before, written = await stream.sequences(), cluster.status_writes
    assert set(await told(stream)) == set(wanted(cluster))
    cluster.list_delay = asyncio.Event()
    async with rule_side(cluster, nats_server.url) as side:
        side.controller.observe_sensor(None, younger)
        for number in range(3):
            side.controller.observe_rule(None, cluster.get("Rule", "default", f"r{number}"))
        unserved = cluster.rule("default", "unserved", "core.cron")
        await until(lambda: side.controller.connected)
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert cluster.status_writes == written
        assert await stream.sequences() == before
        cluster.list_delay.set()
        await side.synced(REF)
        # Something has to be said of the new Rule, so that the loop has been at work for certain.
        await until(lambda: cluster.condition("default", "unserved", "Accepted") == ("False", "UnknownTriggerType"))
        assert unserved["metadata"]["uid"] not in str(await stream.sequences())
        assert await stream.sequences() == before


async def test_a_rule_made_while_the_list_is_under_way_is_not_buried(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    some_rules(cluster, 3)
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
        for number in range(4):
            cluster.list_delay = asyncio.Event()
            lists = cluster.lists
            side.controller._sweeper.request()
            await until(lambda lists=lists: cluster.lists >= lists + 3)  # type: ignore[misc]
            cluster.rule("default", f"during-{number}", "core.timer", interval=1)
            await stream.shows(told, wanted(cluster))
            cluster.list_delay.set()
        cluster.list_delay = None
        sequences = await stream.sequences()
        assert len(sequences) == 7
        await until(lambda: side.controller.summary(SENSOR).bound == 7)
        assert await told(stream) == wanted(cluster)
        assert set(await stream.types()) == {"dev.attune.rule.created"}


async def test_an_operator_killed_at_any_moment_leaves_nothing_that_the_next_one_does_not_mend(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    rng = random.Random(5)
    for round_ in range(50):
        side = RuleSideUnderTest(cluster, nats_server.url, seed=round_)
        side.start()
        for _ in range(rng.randrange(1, 6)):
            name = f"r{rng.randrange(6)}"
            if rng.random() < 0.3 and ("Rule", "default", name) in cluster.objects:
                cluster.delete("Rule", "default", name)
            else:
                cluster.rule("default", name, "core.timer", enabled=rng.random() < 0.7, interval=round_)
            await asyncio.sleep(rng.random() * 0.02)
        await asyncio.sleep(rng.random() * 0.05)
        await side.stop()
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
        assert await told(stream) == wanted(cluster)


class TestTwoOperators:
    async def test_the_stale_one_loses(self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream) -> None:
        some_rules(cluster)
        async with (
            rule_side(cluster, nats_server.url) as fresh,
            rule_side(cluster, nats_server.url, check_interval=3600.0) as stale,
        ):
            await fresh.synced(REF)
            await stale.synced(REF)
            stale.sees_events = False
            old = cluster.get("Rule", "default", "r1")
            cluster.rule("default", "r1", "core.timer", interval=99)
            cluster.rule("default", "r3", "core.timer", enabled=False, interval=3)
            cluster.delete("Rule", "default", "r2")
            await stream.shows(told, wanted(cluster))
            before = {subject: message.seq for subject, message in (await stream.messages()).items()}
            # The stale one is brought to write what it believes. Its lists are held back.
            cluster.list_delay = asyncio.Event()
            relabelled = old | {"spec": old["spec"] | {"enabled": False}}
            stale.controller.observe_rule("MODIFIED", relabelled)
            await until(lambda: "r1" in stale.controller.contested)
            assert {subject: message.seq for subject, message in (await stream.messages()).items()} == before
            cluster.list_delay.set()
            cluster.list_delay = None
            await until(lambda: not stale.controller.contested)
            assert {subject: message.seq for subject, message in (await stream.messages()).items()} == before

    async def test_they_end_up_agreeing_and_at_rest(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        some_rules(cluster)
        rng = random.Random(7)
        async with (
            rule_side(cluster, nats_server.url, check_interval=0.2, sweep_interval=0.3) as one,
            rule_side(cluster, nats_server.url, check_interval=0.2, sweep_interval=0.3) as two,
        ):
            for number in range(100):
                name = f"r{rng.randrange(20)}"
                if rng.random() < 0.2 and ("Rule", "default", name) in cluster.objects:
                    cluster.delete("Rule", "default", name)
                else:
                    cluster.rule("default", name, "core.timer", enabled=rng.random() < 0.7, interval=number)
                one.sees_events, two.sees_events = rng.random() < 0.7, rng.random() < 0.7
                await asyncio.sleep(0.002)
            await one.synced(REF)
            await two.synced(REF)
            await stream.shows(told, wanted(cluster))

            async def at_rest() -> bool:
                """Nothing was written while both listed everything ten times."""
                sequence, lists = await _last_sequence(stream), cluster.lists
                await until(lambda: cluster.lists > lists + 20)
                return await _last_sequence(stream) == sequence

            await until(at_rest)
            assert await told(stream) == wanted(cluster)


async def _last_sequence(stream: Stream) -> int:
    async with stream.connected() as client:
        info: Any = await client.jetstream(timeout=60).stream_info(subjects.RULES_STREAM)
    return int(info.state.last_seq)


async def test_a_message_that_nats_refuses_is_said_and_tried_again(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    async with rule_side(cluster, nats_server.url, check_interval=3600.0) as side:
        await side.synced(REF)
        async with open_connection(NatsEndpoint(url=nats_server.url)) as connection:
            full = rules_stream(replicas=1).evolve(max_msgs=1)
            await connection.jetstream.update_stream(full)
            cluster.rule("default", "a", "core.timer")
            await stream.shows(told, wanted(cluster))
            cluster.rule("default", "b", "core.timer")
            await until(lambda: side.controller.summary(SENSOR).reason == "PublishFailed")
            await until(lambda: "NATS refuses" in cluster.message("default", "b", "Active"))
            await connection.jetstream.update_stream(rules_stream(replicas=1))
        await stream.shows(told, wanted(cluster))
        await side.synced(REF)


async def test_a_tombstone_ends_and_the_rule_may_still_come_back(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    cluster.rule("default", "echo", "core.timer")
    everywhere = {"namespaces": {"from": "All"}}
    async with rule_side(cluster, nats_server.url, tombstone_ttl=1.0) as side:
        await side.synced(REF)
        cluster.sensor("attune-system", "core.timer", "core.other", rules=everywhere)
        await stream.shows(Stream.types, ["dev.attune.rule.deleted"])
        await stream.shows(Stream.types, [])
        cluster.sensor("attune-system", "core.timer", "core.timer", rules=everywhere)
        await stream.shows(told, wanted(cluster))


async def test_headers_are_cloudevents(cluster: MemoryCluster, nats_server: NatsServer, stream: Stream) -> None:
    cluster.rule("default", "echo", "core.timer")
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
        [message] = (await stream.messages()).values()
    reference = rule_event_headers(
        RuleEventType.CREATED,
        decode_rule(message.data),
        time=datetime.fromisoformat(message.headers["ce-time"]),
        event_id=UUID(message.headers["ce-id"]),
    )
    assert {name: message.headers[name] for name in reference} == reference


async def test_rules_that_are_restored_on_a_new_stream_are_no_news_in_their_history(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    uid = cluster.rule("default", "echo", "core.timer", interval=1)["metadata"]["uid"]
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
        await stream.shows(lambda _: _history(nats_server, uid), ["created"])
        async with open_connection(NatsEndpoint(url=nats_server.url)) as connection:
            await connection.jetstream.delete_stream(subjects.RULES_STREAM)
        await stream.shows(told, wanted(cluster))
        cluster.rule("default", "echo", "core.timer", interval=2)
        await stream.shows(lambda _: _history(nats_server, uid), ["created", "updated"])


async def test_history_that_could_not_be_written_is_written_when_nats_is_back(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    uid = cluster.rule("default", "echo", "core.timer", interval=1)["metadata"]["uid"]
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
        await stream.shows(lambda _: _history(nats_server, uid), ["created"])
        [state] = (await stream.states()).values()
        nats_server.kill()
        await until(lambda: not side.controller.connected)
        side.controller._history.add(
            HistoryEntry(
                event_type=RuleEventType.DISABLED,
                state=state,
                body=encode(state),
                time=datetime.fromisoformat("2026-11-23T12:00:00+00:00"),
                event_id=UUID("5a1c8f0e-6d0b-4d57-9c5e-1f7a3b8f2d10"),
            )
        )
        nats_server.start()
        await stream.shows(lambda _: _history(nats_server, uid), ["created", "disabled"])
        assert len(side.controller._history) == 0


async def _history(server: NatsServer, uid: str) -> list[str]:
    async with open_connection(NatsEndpoint(url=server.url)) as connection:
        return [past.event_type.rpartition(".")[2] for past in await read_history(connection, rule_uid=uid)]
