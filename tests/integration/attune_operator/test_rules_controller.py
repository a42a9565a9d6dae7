"""The Rule side with a real NATS server: from a Rule to the stream, from an ack to the status."""

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_cluster import MemoryCluster
from support.rule_side import Stream, rule_side

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import AckState
from attune_contract.quotas import Quotas
from attune_kit.nats.connection import NatsEndpoint, open_connection
from attune_operator.rules.history import read_history
from attune_operator.runtime.views import SensorRuntime

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
        await until(lambda: "has not acknowledged generation 1" in cluster.message("default", "echo", "Active"))
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


@pytest.mark.parametrize(
    ("kind", "parameters", "reason", "said"),
    [
        ("core.intervaltimer", {"interval": -1}, "InvalidParameters", "parameters.interval: -1 is less than"),
        ("core.timer", {"interval": 1, "unit": "fortnights"}, "InvalidParameters", "'fortnights' is not one of"),
        ("core.intervaltimr", {}, "UnknownTriggerType", "Did you mean core.intervaltimer"),
        ("web.hook", {}, "NotAllowed", "web/hook admits Rules from its own namespace web only"),
        ("any.thing", {"x": "y" * 600_000}, "InvalidParameters", "at most 524288 can be sent to a sensor"),
    ],
)
async def test_a_rule_that_is_not_accepted_says_why_and_disturbs_nobody(
    cluster: MemoryCluster,
    nats_server: NatsServer,
    stream: Stream,
    kind: str,
    parameters: dict[str, Any],
    reason: str,
    said: str,
) -> None:
    cluster.sensor("web", "hook", "web.hook")
    cluster.sensor("default", "any", "any.thing")
    good = cluster.rule("default", "good", interval=1)
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
        cluster.rule("default", "bad", kind, **parameters)
        await until(lambda: cluster.condition("default", "bad", "Accepted") == ("False", reason))
        assert said in cluster.message("default", "bad", "Accepted")
        assert cluster.condition("default", "bad", "Active") == ("False", "NotAccepted")
        assert "sensor" not in cluster.get("Rule", "default", "bad")["status"]
        assert [state.uid for state in (await stream.states()).values()] == [good["metadata"]["uid"]]
        said_so = [("Warning", reason)]
        await until(lambda: [(e.type, e.reason) for e in cluster.events if e.regarding.name == "bad"] == said_so)
        assert side.controller.summary(SensorRef.parse(REF)).bound == 1


async def test_a_rule_above_the_quota_says_so_and_takes_a_place_when_one_is_free(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    for name in ("first", "second"):
        cluster.rule("default", name, interval=1)
    cluster.rule("attune-system", "other", interval=1)
    async with rule_side(cluster, nats_server.url, quotas=Quotas(rules_per_sensor=1)) as side:
        await side.synced(REF)

        def without() -> list[str]:
            names = ("first", "second")
            return [
                name for name in names if cluster.condition("default", name, "Accepted") == ("False", "QuotaExceeded")
            ]

        await until(lambda: len(without()) == 1)
        [late] = without()
        [early] = {"first", "second"} - {late}
        await until(lambda: cluster.condition("default", early, "Accepted") == ("True", "Accepted"))
        await until(lambda: cluster.condition("attune-system", "other", "Accepted") == ("True", "Accepted"))
        assert f"The Sensor {REF} serves at most 1 Rule of the namespace default" in cluster.message(
            "default", late, "Accepted"
        )
        assert sorted(state.name for state in (await stream.states()).values()) == sorted([early, "other"])
        cluster.rule("default", "newcomer", interval=1)
        await until(lambda: cluster.condition("default", "newcomer", "Accepted") == ("False", "QuotaExceeded"))
        assert cluster.condition("default", early, "Accepted") == ("True", "Accepted")
        cluster.delete("Rule", "default", early)
        cluster.delete("Rule", "default", "newcomer")
        await until(lambda: cluster.condition("default", late, "Accepted") == ("True", "Accepted"))
        await until(lambda: side.controller.summary(SensorRef.parse(REF)).bound == 2)


async def test_an_accepted_rule_that_is_spoilt_is_taken_from_its_sensor_and_comes_back(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    cluster.rule("default", "echo", interval=1)
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
        cluster.rule("default", "echo", interval=0)
        await stream.shows(Stream.types, ["dev.attune.rule.deleted"])
        cluster.rule("default", "echo", interval=2)
        await stream.shows(Stream.types, ["dev.attune.rule.created"])
        [state] = (await stream.states()).values()
        assert (state.generation, state.parameters) == (3, {"interval": 2})


class TestBinding:
    async def test_a_nearer_sensor_takes_a_rule_over_and_gives_it_back(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        uid = cluster.rule("default", "echo", interval=1)["metadata"]["uid"]
        far, near = (
            f"attune.rules.attune-system.core_timer.{uid}",
            f"attune.rules.default.own_timer.{uid}",
        )
        async with rule_side(cluster, nats_server.url) as side:
            await side.synced(REF)
            assert set(await stream.states()) == {far}
            cluster.sensor("default", "own.timer", TIMER)
            await stream.shows(_bindings, {near: "dev.attune.rule.created", far: "dev.attune.rule.deleted"})
            await until(lambda: _shown_sensor(cluster) == "default/own.timer")
            cluster.delete("Sensor", "default", "own.timer")
            await stream.shows(_bindings, {far: "dev.attune.rule.created", near: "dev.attune.rule.deleted"})
            await until(lambda: _shown_sensor(cluster) == REF)

    async def test_a_deleted_sensors_rules_say_so_and_leave_the_stream(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        cluster.rule("default", "echo", interval=1)
        async with rule_side(cluster, nats_server.url) as side:
            await side.synced(REF)
            cluster.delete("Sensor", "attune-system", "core.timer")
            await until(lambda: cluster.condition("default", "echo", "Accepted") == ("False", "UnknownTriggerType"))
            await stream.shows(Stream.types, ["dev.attune.rule.deleted"])

    async def test_a_narrowed_sensor_lets_rules_go_and_a_relabelled_namespace_brings_them_back(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        cluster.rule("default", "echo", interval=1)
        async with rule_side(cluster, nats_server.url) as side:
            await side.synced(REF)
            cluster.sensor(
                "attune-system",
                "core.timer",
                TIMER,
                rules={"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "blue"}}}},
            )
            await until(lambda: cluster.condition("default", "echo", "Accepted") == ("False", "NotAllowed"))
            await stream.shows(Stream.types, ["dev.attune.rule.deleted"])
            cluster.namespace("default", team="blue")
            await until(lambda: cluster.condition("default", "echo", "Accepted") == ("True", "Accepted"))
            await stream.shows(Stream.types, ["dev.attune.rule.created"])

    async def test_a_squatter_gets_no_rules_of_others_and_a_sensor_that_was_made_anew_gets_them_back(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        cluster.namespace("team-b")
        cluster.rule("default", "echo", interval=1)
        async with rule_side(cluster, nats_server.url, trusted_namespaces=frozenset({"attune-system"})) as side:
            await side.synced(REF)
            await until(lambda: _shown_sensor(cluster) == REF)
            cluster.sensor("team-b", "squatter", TIMER, rules={"namespaces": {"from": "All"}})
            cluster.delete("Sensor", "attune-system", "core.timer")
            await until(lambda: cluster.condition("default", "echo", "Accepted") == ("False", "NotAllowed"))
            await stream.shows(Stream.states, {})
            cluster.sensor("attune-system", "core.timer", TIMER, rules={"namespaces": {"from": "All"}})
            await until(lambda: _shown_sensor(cluster) == REF)
            assert all(".attune-system." in subject for subject in await stream.states())

    async def test_a_namespace_allows_the_sensors_of_another(
        self, cluster: MemoryCluster, nats_server: NatsServer
    ) -> None:
        cluster.namespace("team-b")
        cluster.sensor(
            "team-b", "shared", TIMER | {"name": "b.timer", "aliases": []}, rules={"namespaces": {"from": "All"}}
        )
        cluster.rule("default", "theirs", "b.timer", interval=1)
        async with rule_side(cluster, nats_server.url, trusted_namespaces=frozenset({"attune-system"})):
            await until(lambda: cluster.condition("default", "theirs", "Accepted") == ("False", "NotAllowed"))
            cluster.namespace("default", **{"sensors.attune.dev/team-b": "allowed"})
            await until(lambda: cluster.condition("default", "theirs", "Accepted") == ("True", "Accepted"))
            cluster.namespace("default")
            await until(lambda: cluster.condition("default", "theirs", "Accepted") == ("False", "NotAllowed"))

    async def test_a_paused_sensors_rules_stay_on_the_stream_and_say_so(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        uid = cluster.rule("default", "echo", interval=1)["metadata"]["uid"]
        everywhere = {"namespaces": {"from": "All"}}
        async with rule_side(cluster, nats_server.url) as side:
            side.ready(REF)
            await side.synced(REF)
            await stream.ack(REF, uid, 1)
            await until(lambda: cluster.condition("default", "echo", "Active") == ("True", "Active"))
            cluster.sensor("attune-system", "core.timer", TIMER, rules=everywhere, paused=True)
            await until(lambda: cluster.condition("default", "echo", "Active") == ("False", "SensorPaused"))
            assert len(await stream.states()) == 1
            cluster.sensor("attune-system", "core.timer", TIMER, rules=everywhere)
            await until(lambda: cluster.condition("default", "echo", "Active") == ("True", "Active"))

    async def test_a_schema_that_changes_is_applied_to_the_rules_that_are_there(
        self, cluster: MemoryCluster, nats_server: NatsServer
    ) -> None:
        cluster.rule("default", "echo", interval=1)
        everywhere = {"namespaces": {"from": "All"}}
        async with rule_side(cluster, nats_server.url) as side:
            await side.synced(REF)
            stricter = TIMER | {"parametersSchema": {"properties": {"interval": {"minimum": 10}}}}
            cluster.sensor("attune-system", "core.timer", stricter, rules=everywhere)
            await until(lambda: cluster.condition("default", "echo", "Accepted") == ("False", "InvalidParameters"))


def _shown_sensor(cluster: MemoryCluster) -> str | None:
    sensor: str | None = cluster.get("Rule", "default", "echo").get("status", {}).get("sensor")
    return sensor


async def _bindings(stream: Stream) -> dict[str, str]:
    return {subject: message.headers["ce-type"] for subject, message in (await stream.messages()).items()}


class TestStatus:
    async def test_a_sensor_that_goes_down_and_comes_back_needs_no_new_word(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        uid = cluster.rule("default", "echo", interval=1)["metadata"]["uid"]
        async with rule_side(cluster, nats_server.url) as side:
            side.ready(REF)
            await side.synced(REF)
            await stream.ack(REF, uid, 1)
            await until(lambda: cluster.condition("default", "echo", "Active") == ("True", "Active"))
            side.controller.observe_runtime(
                SensorRef.parse(REF), SensorRuntime(ready_replicas=0, message="its pod crashes.")
            )
            await until(lambda: cluster.condition("default", "echo", "Active") == ("False", "AwaitingSensor"))
            assert cluster.message("default", "echo", "Active").endswith("is not ready: its pod crashes.")
            side.ready(REF)
            await until(lambda: cluster.condition("default", "echo", "Active") == ("True", "Active"))

    async def test_what_stands_becomes_right_again_while_the_opposite_is_being_written(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        """The write on its way is the outdated one then, although what stands until it arrives is what should."""
        uid = cluster.rule("default", "echo", interval=1)["metadata"]["uid"]
        async with rule_side(cluster, nats_server.url, acks_grace=0.0) as side:
            await side.synced(REF)
            side.ready(REF)
            await stream.ack(REF, uid, 1)
            await until(lambda: cluster.condition("default", "echo", "Active") == ("True", "Active"))
            cluster.patch_delay = asyncio.Event()
            await stream.ack(REF, uid, 1, AckState.STOPPED)
            await until(lambda: cluster.patches_held == 1)
            await stream.ack(REF, uid, 1)
            await until(lambda: side.controller.summary(SensorRef.parse(REF)).active == 1)
            writes = cluster.status_writes
            cluster.patch_delay.set()
            await until(lambda: cluster.status_writes == writes + 2)
            assert cluster.condition("default", "echo", "Active") == ("True", "Active")

    async def test_a_rules_status_is_not_written_to_another_rule_of_its_name(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        """A Rule was deleted and made again while the write was on its way. Nobody runs the new one yet."""
        uid = cluster.rule("default", "echo", interval=1)["metadata"]["uid"]
        async with rule_side(cluster, nats_server.url) as side:
            await side.synced(REF)
            side.ready(REF)
            await until(lambda: cluster.condition("default", "echo", "Active") == ("False", "AwaitingSensor"))
            cluster.patch_delay = asyncio.Event()
            await stream.ack(REF, uid, 1)
            await until(lambda: cluster.patches_held == 1)
            cluster.delete("Rule", "default", "echo")
            cluster.rule("default", "echo", interval=2)
            said: list[tuple[str, str]] = []
            cluster.onlookers.append(lambda _kind, _item: said.append(cluster.condition("default", "echo", "Active")))
            cluster.patch_delay.set()
            await until(lambda: cluster.condition("default", "echo", "Active") == ("False", "AwaitingSensor"))
            assert ("True", "Active") not in said

    async def test_at_rest_nothing_is_written(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        for number in range(20):
            cluster.rule("default", f"r{number}", interval=1)
        async with rule_side(cluster, nats_server.url, sweep_interval=0.05) as side:
            await side.synced(REF)
            await until(lambda: all(cluster.condition("default", f"r{n}", "Active")[1] for n in range(20)))

            async def at_rest() -> bool:
                """Nothing was written while everything was listed ten times."""
                writes, lists, sequence = cluster.status_writes, cluster.lists, await _last_sequence(stream)
                await until(lambda: cluster.lists > lists + 9)
                return (cluster.status_writes, await _last_sequence(stream)) == (writes, sequence)

            await until(at_rest)

    async def test_a_status_edited_by_hand_is_put_back(self, cluster: MemoryCluster, nats_server: NatsServer) -> None:
        cluster.rule("default", "echo", interval=1)
        async with rule_side(cluster, nats_server.url, believe_own_write=0.0) as side:
            await side.synced(REF)
            await until(lambda: cluster.condition("default", "echo", "Accepted") == ("True", "Accepted"))
            uid = cluster.get("Rule", "default", "echo")["metadata"]["uid"]
            await cluster.patch_rule_status("default", "echo", {"conditions": [], "sensor": "nobody/here"}, uid=uid)
            await until(lambda: cluster.condition("default", "echo", "Accepted") == ("True", "Accepted"))
            assert cluster.get("Rule", "default", "echo")["status"]["sensor"] == REF

    async def test_statuses_wait_for_a_kubernetes_that_is_away(
        self, cluster: MemoryCluster, nats_server: NatsServer
    ) -> None:
        async with rule_side(cluster, nats_server.url) as side:
            await side.synced(REF)
            cluster.reachable = False
            cluster.rule("default", "echo", interval=1)
            await until(lambda: side.controller.summary(SensorRef.parse(REF)).bound == 1)
            cluster.reachable = True
            await until(lambda: cluster.condition("default", "echo", "Accepted") == ("True", "Accepted"))

    async def test_words_of_other_sensors_and_malformed_ones_are_not_heard(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        uid = cluster.rule("default", "echo", interval=1)["metadata"]["uid"]
        async with rule_side(cluster, nats_server.url) as side:
            side.ready(REF)
            await side.synced(REF)
            await stream.ack("default/liar", uid, 1)
            await stream.publish(subjects.ack_subject(SensorRef.parse(REF), uid), b"{}")
            await stream.publish(f"attune.acks.attune-system.core_timer.{uid}.more", b"{}")
            await stream.ack(REF, "another-rule", 1)
            await stream.ack(REF, uid, 1, AckState.FAILING, "disk full")
            await until(lambda: cluster.condition("default", "echo", "Active") == ("False", "Failing"))

    async def test_acks_of_rules_that_are_gone_are_taken_off_the_stream(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        kept = cluster.rule("default", "kept", interval=1)["metadata"]["uid"]
        gone = cluster.rule("default", "gone", interval=1)["metadata"]["uid"]
        async with rule_side(cluster, nats_server.url, sweep_interval=0.1) as side:
            side.ready(REF)
            await side.synced(REF)
            await stream.ack(REF, kept, 1)
            await stream.ack(REF, gone, 1)
            cluster.delete("Rule", "default", "gone")
            await stream.shows(_acked_rules, [kept])

    async def test_the_latest_events_time_is_shown_and_not_written_for_each_event(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        uid = cluster.rule("default", "echo", interval=1)["metadata"]["uid"]
        async with rule_side(cluster, nats_server.url, times_sensor_rate=1 / 3600) as side:
            await side.synced(REF)
            await until(lambda: cluster.condition("default", "echo", "Active") == ("False", "AwaitingSensor"))
            async with stream.connected() as client:
                await client.jetstream(timeout=60).add_stream(
                    name=subjects.EVENTS_STREAM, subjects=[subjects.ALL_EVENTS]
                )
            for second in range(3):
                await _event(stream, uid, f"2026-11-23T12:00:0{second}.250000Z")
            await until(lambda: _last_event(cluster) is not None)
            shown, writes = _last_event(cluster), cluster.status_writes
            assert shown in {f"2026-11-23T12:00:0{second}Z" for second in range(3)}
            await _event(stream, uid, "2026-11-23T12:30:00Z")
            ref = SensorRef.parse(REF)
            await until(lambda: str(side.controller.summary(ref).last_event_time) == "2026-11-23 12:30:00+00:00")
            assert (_last_event(cluster), cluster.status_writes) == (shown, writes)
            cluster.rule("default", "echo", interval=2)  # another write takes it along
            await until(lambda: _last_event(cluster) == "2026-11-23T12:30:00Z")

    async def test_when_a_rule_is_due_next_is_shown_as_its_sensor_says(
        self, cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
    ) -> None:
        uid = cluster.rule("default", "echo", interval=1)["metadata"]["uid"]

        def shown() -> object:
            return cluster.get("Rule", "default", "echo").get("status", {}).get("nextTime")

        async with rule_side(cluster, nats_server.url) as side:
            side.ready(REF)
            await side.synced(REF)
            await stream.ack(REF, uid, 1, next_at=datetime(2026, 11, 28, 7, tzinfo=timezone(timedelta(hours=1))))
            await until(lambda: shown() == "2026-11-28T06:00:00Z")
            conditions = cluster.get("Rule", "default", "echo")["status"]["conditions"]
            await stream.ack(REF, uid, 1, next_at=datetime(2026, 11, 29, 6, tzinfo=UTC))
            await until(lambda: shown() == "2026-11-29T06:00:00Z")
            assert cluster.get("Rule", "default", "echo")["status"]["conditions"] == conditions
            await stream.ack(REF, uid, 1, next_at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))))
            await until(lambda: shown() is None, what="a time that nobody can write is left out, and harms nothing")
            await stream.ack(REF, uid, 1, next_at=datetime(2026, 11, 30, 6, tzinfo=UTC))
            await until(lambda: shown() == "2026-11-30T06:00:00Z")
            await stream.ack(REF, uid, 1, AckState.COMPLETED)
            await until(lambda: cluster.condition("default", "echo", "Active") == ("False", "Completed"))
            await until(lambda: shown() is None)


async def _last_sequence(stream: Stream) -> int:
    async with stream.connected() as client:
        info = await client.jetstream(timeout=60).stream_info(subjects.RULES_STREAM)
    return int(info.state.last_seq)


async def _acked_rules(stream: Stream) -> list[str]:
    async with stream.connected() as client:
        info = await client.jetstream(timeout=60).stream_info(subjects.ACKS_STREAM, subjects_filter=">")
    return [subject.rpartition(".")[2] for subject in info.state.subjects or ()]


async def _event(stream: Stream, uid: str, time: str) -> None:
    await stream.publish(subjects.event_subject("default", uid), b"{}", {"ce-time": time})


def _last_event(cluster: MemoryCluster) -> str | None:
    time: str | None = cluster.get("Rule", "default", "echo").get("status", {}).get("lastEventTime")
    return time


async def test_the_history_says_what_happened_and_through_whom(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    uid = cluster.rule("default", "echo", interval=1, manager="kubectl-client-side-apply")["metadata"]["uid"]
    async with rule_side(cluster, nats_server.url, history_per_rule=3) as side:
        await side.synced(REF)
        for number, change in enumerate(
            (
                {"interval": 2, "manager": "argocd"},
                {"interval": 2, "enabled": False, "manager": "alice"},
                {"interval": 2, "enabled": True, "manager": "bob"},
            ),
            start=2,
        ):
            cluster.rule("default", "echo", **change)  # type: ignore[arg-type]
            await stream.shows(_generations, [number])
        cluster.delete("Rule", "default", "echo")
        await stream.shows(Stream.types, ["dev.attune.rule.deleted"])

        async def told(_: Stream) -> list[tuple[str, str, str]]:
            async with open_connection(NatsEndpoint(url=nats_server.url)) as connection:
                past = await read_history(connection, rule_uid=uid)
            return [(event.event_type.rpartition(".")[2], event.changed_by, event.reason) for event in past]

        await stream.shows(told, [("disabled", "alice", ""), ("enabled", "bob", ""), ("deleted", "", "Deleted")])


async def _generations(stream: Stream) -> list[int]:
    return [state.generation for state in (await stream.states()).values()]
