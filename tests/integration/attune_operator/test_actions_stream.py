"""The stream of actions is what the Rules say, whatever is deleted, edited, forged or restarted."""

from typing import Any

import pytest
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_cluster import MemoryCluster
from support.rule_side import Stream, rule_side

from attune_contract.actions import (
    ACTIONS_STREAM,
    RuleActions,
    actions_subject,
    decode_actions,
    encode,
)

pytestmark = pytest.mark.nats

REF = "attune-system/core.timer"
HTTP: dict[str, Any] = {"name": "tell", "http": {"url": "https://a.example/", "body": {"text": "${event.id}"}}}


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


async def messages(stream: Stream) -> dict[str, RuleActions]:
    """The last word about each Rule, by uid."""
    async with stream.connected() as client:
        jetstream = client.jetstream(timeout=60)
        info = await jetstream.stream_info(ACTIONS_STREAM, subjects_filter=">")
        found = {}
        for subject in info.state.subjects or {}:
            message = await jetstream.get_last_msg(ACTIONS_STREAM, subject)
            found[subject.rpartition(".")[2]] = decode_actions(message.data)
        return found


async def said(stream: Stream) -> dict[str, tuple[int, bool, int]]:
    """Of each Rule that is not deleted: generation, enabled, and how many actions."""
    found = await messages(stream)
    return {uid: (each.generation, each.enabled, len(each.actions)) for uid, each in found.items() if not each.deleted}


def wanted(cluster: MemoryCluster) -> dict[str, tuple[int, bool, int]]:
    return {
        rule["metadata"]["uid"]: (
            rule["metadata"]["generation"],
            rule["spec"]["enabled"],
            len(rule["spec"].get("actions", ())),
        )
        for rule in cluster.all("Rule")
    }


def uid_of(cluster: MemoryCluster, name: str) -> str:
    return str(cluster.get("Rule", "default", name)["metadata"]["uid"])


async def test_each_rule_has_a_word_with_defaults_filled_in(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    plain = cluster.rule("default", "plain", "core.timer")
    rule = cluster.rule_with(
        "default", "tells", {"when": "event.payload.n > 1", "data": {"team": "a"}, "actions": [HTTP]}
    )
    cluster.rule("default", "of-no-sensor", "nobody.offers")
    async with rule_side(cluster, nats_server.url):
        await stream.shows(said, wanted(cluster))
        found = await messages(stream)
    assert found[plain["metadata"]["uid"]].actions == ()
    told = found[rule["metadata"]["uid"]]
    assert (told.namespace, told.name, told.when, told.data) == (
        "default",
        "tells",
        "event.payload.n > 1",
        {"team": "a"},
    )
    [action] = told.actions
    assert action["http"]["method"] == "POST"
    assert action["retry"] == {"attempts": 5, "backoff": "2s", "maxBackoff": "5m", "timeout": "30s"}
    assert action["concurrency"] == "Allow"


async def test_what_changes_is_said_and_what_is_deleted_leaves_a_tombstone(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    cluster.rule_with("default", "tells", {"actions": [HTTP]})
    cluster.rule("default", "goes", "core.timer")
    gone = uid_of(cluster, "goes")
    async with rule_side(cluster, nats_server.url):
        await stream.shows(said, wanted(cluster))
        cluster.rule_with("default", "tells", {"enabled": False, "actions": [HTTP, {**HTTP, "name": "again"}]})
        cluster.delete("Rule", "default", "goes")
        await stream.shows(said, wanted(cluster))
        assert (await messages(stream))[gone].deleted


async def test_labels_and_annotations_are_kept_current_without_a_new_generation(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    cluster.rule_with("default", "tells", {"actions": [HTTP]})
    uid = uid_of(cluster, "tells")
    async with rule_side(cluster, nats_server.url):
        await stream.shows(said, wanted(cluster))
        cluster.annotate("default", "tells", team="a", **{"kubectl.kubernetes.io/last-applied-configuration": "{}"})

        async def annotated() -> bool:
            return (await messages(stream))[uid].annotations == {"team": "a"}

        await until(annotated)


async def test_nothing_is_written_when_nothing_differs(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    for number in range(5):
        cluster.rule_with("default", f"r{number}", {"actions": [HTTP]})
    async with rule_side(cluster, nats_server.url):
        await stream.shows(said, wanted(cluster))
    before = await sequence(stream)
    async with rule_side(cluster, nats_server.url) as side:
        await side.synced(REF)
    assert await sequence(stream) == before == 5


async def test_after_a_start_rules_without_actions_come_last(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    """A runner that knows nothing about them does nothing, as it should."""
    for number in range(20):
        cluster.rule("default", f"idle-{number}", "core.timer")
        cluster.rule_with("default", f"acts-{number}", {"actions": [HTTP]})
        cluster.rule("default", f"idle-too-{number}", "core.timer")
    acting = [uid_of(cluster, f"acts-{number}") for number in range(20)]
    async with rule_side(cluster, nats_server.url):
        await stream.shows(said, wanted(cluster))
    async with stream.connected() as client:
        jetstream = client.jetstream(timeout=60)
        sequences = [
            (await jetstream.get_last_msg(ACTIONS_STREAM, actions_subject("default", uid))).seq for uid in acting
        ]
    assert sorted(sequences) == list(range(1, 21))


async def test_a_rule_that_loses_its_actions_while_the_operator_is_away_is_said_to_do_nothing(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    cluster.rule_with("default", "tells", {"actions": [HTTP]})
    async with rule_side(cluster, nats_server.url):
        await stream.shows(said, wanted(cluster))
    cluster.rule_with("default", "tells", {"actions": []})
    async with rule_side(cluster, nats_server.url):
        await stream.shows(said, wanted(cluster))
    assert (await messages(stream))[uid_of(cluster, "tells")].actions == ()


async def sequence(stream: Stream) -> int:
    async with stream.connected() as client:
        info = await client.jetstream(timeout=60).stream_info(ACTIONS_STREAM)
        return int(info.state.last_seq)


async def test_what_happened_while_the_operator_was_away(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    for number in range(3):
        cluster.rule_with("default", f"r{number}", {"actions": [HTTP]})
    gone = uid_of(cluster, "r0")
    async with rule_side(cluster, nats_server.url):
        await stream.shows(said, wanted(cluster))
    cluster.delete("Rule", "default", "r0")
    cluster.rule_with("default", "r1", {"actions": []})
    async with rule_side(cluster, nats_server.url):
        await stream.shows(said, wanted(cluster))
        assert (await messages(stream))[gone].deleted


async def test_forged_and_damaged_words_are_corrected(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    cluster.rule_with("default", "tells", {"actions": [HTTP]})
    cluster.rule_with("default", "other", {"actions": [HTTP]})
    uid, other = uid_of(cluster, "tells"), uid_of(cluster, "other")
    async with rule_side(cluster, nats_server.url):
        await stream.shows(said, wanted(cluster))
        before = await messages(stream)
        forged = RuleActions(uid=uid, namespace="default", name="tells", generation=1, actions=({"name": "evil"},))
        await stream.publish(actions_subject("default", uid), encode(forged))
        await stream.publish(actions_subject("default", other), b"rubbish")
        await stream.publish(actions_subject("default", "never-was"), encode(forged))

        async def corrected() -> bool:
            found = await messages(stream)
            assert {uid: found[uid], other: found[other]} == before
            return found["never-was"].deleted

        await until(corrected, within=15)


@pytest.mark.parametrize("how", ["purged", "deleted", "killed"])
async def test_a_stream_that_was_lost_is_written_again(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream, how: str
) -> None:
    for number in range(5):
        cluster.rule_with("default", f"r{number}", {"actions": [HTTP]})
    async with rule_side(cluster, nats_server.url):
        await stream.shows(said, wanted(cluster))
        if how == "killed":
            nats_server.kill()
            cluster.rule_with("default", "r1", {"actions": []})
            nats_server.start()
        else:
            async with stream.connected() as client:
                change = (
                    client.jetstream(timeout=60).purge_stream if how == "purged" else client.jetstream().delete_stream
                )
                await change(ACTIONS_STREAM)
        await stream.shows(said, wanted(cluster), within=20)


async def test_actions_that_are_too_large_are_not_accepted(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    cluster.rule_with("default", "large", {"data": {"x": "y" * 600_000}, "actions": [HTTP]})
    async with rule_side(cluster, nats_server.url):
        await until(lambda: cluster.condition("default", "large", "Accepted") == ("False", "ActionsTooLarge"))
        assert "at most 524288" in cluster.message("default", "large", "Accepted")
        assert await said(stream) == {}


async def test_invalid_expressions_are_said_in_the_condition_and_events_go_on(
    cluster: MemoryCluster, nats_server: NatsServer, stream: Stream
) -> None:
    cluster.rule_with("default", "plain", {})
    cluster.rule_with("default", "wrong", {"when": "event.paylod.n > 1", "actions": [HTTP]})
    cluster.rule_with("default", "right", {"when": "event.payload.n > 1", "actions": [HTTP]})
    async with rule_side(cluster, nats_server.url) as side:
        await until(lambda: cluster.condition("default", "wrong", "ActionsHealthy") == ("False", "InvalidExpression"))
        await until(lambda: cluster.condition("default", "right", "ActionsHealthy") == ("True", "Healthy"))
        assert "spec.when: column 7: event has no field paylod" in cluster.message("default", "wrong", "ActionsHealthy")
        assert cluster.condition("default", "wrong", "Accepted") == ("True", "Accepted")
        side.ready(REF)
        await stream.ack(REF, uid_of(cluster, "wrong"), 1)
        await until(lambda: cluster.condition("default", "wrong", "Stalled") == ("True", "InvalidExpression"))
        assert cluster.condition("default", "wrong", "Ready") == ("False", "InvalidExpression")

        cluster.rule_with("default", "wrong", {"when": "event.payload.n > 1", "actions": [HTTP]})
        await until(lambda: cluster.condition("default", "wrong", "ActionsHealthy") == ("True", "Healthy"))
        types = {each["type"] for each in cluster.get("Rule", "default", "plain")["status"]["conditions"]}
        assert "ActionsHealthy" not in types
