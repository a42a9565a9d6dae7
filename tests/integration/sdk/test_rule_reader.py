"""The rule reader against a real NATS server, through the faults that it must survive."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_stream import RuleStream, changed, rule_state

from attune_contract import subjects
from attune_contract.messages import RuleState
from attune_kit.nats.connection import NatsEndpoint
from attune_kit.nats.connector import NatsConnector
from attune_sensor._metrics import Metrics
from attune_sensor._rule_reader import RuleReader
from attune_sensor._rule_table import RuleChange, RuleTable

pytestmark = pytest.mark.nats

SENSOR_FILTER = "attune.rules.attune-system.core_timer.>"


@dataclasses.dataclass
class Reading:
    """A reader at work, and what it told."""

    connector: NatsConnector
    metrics: Metrics
    table: RuleTable = dataclasses.field(default_factory=RuleTable)
    changes: list[RuleChange] = dataclasses.field(default_factory=list)
    snapshots: int = 0

    def states(self) -> dict[str, RuleState]:
        return {rule.uid: rule.state for rule in self.table}

    def reasons(self) -> set[str]:
        return {
            sample.labels["reason"]
            for metric in self.metrics.resyncs.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }


@contextlib.asynccontextmanager
async def reading(
    url: str, *, resync_seconds: float = 300, heartbeat_seconds: float = 0.5, absence_seconds: float = 1.0
) -> AsyncIterator[Reading]:
    metrics = Metrics()
    log = structlog.get_logger()
    connector = NatsConnector(NatsEndpoint(url=url, inbox_prefix="_INBOX_test"), on_state=metrics.nats_connected.set)
    it = Reading(connector, metrics)

    def count() -> None:
        it.snapshots += 1

    reader = RuleReader(
        connector=connector,
        filter_subject=SENSOR_FILTER,
        table=it.table,
        on_changes=it.changes.extend,
        on_snapshot=count,
        metrics=metrics,
        log=log,
        resync_seconds=resync_seconds,
        heartbeat_seconds=heartbeat_seconds,
        absence_seconds=absence_seconds,
    )
    tasks = [asyncio.create_task(connector.run()), asyncio.create_task(reader.run())]
    try:
        yield it
    finally:
        for task in reversed(tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def stream(nats_server: NatsServer) -> AsyncIterator[RuleStream]:
    writer = RuleStream(nats_server.url)
    await writer.connect()
    await writer.make_streams()
    yield writer
    await writer.close()


def by_uid(*states: RuleState) -> dict[str, RuleState]:
    return {state.uid: state for state in states}


async def test_empty_stream_is_a_snapshot_of_nothing_at_once(nats_server: NatsServer, stream: RuleStream) -> None:
    async with reading(nats_server.url, heartbeat_seconds=30) as it:
        await until(lambda: it.snapshots >= 1, within=3)
    assert it.changes == []


async def test_snapshot_of_many_rules_then_live(nats_server: NatsServer, stream: RuleStream) -> None:
    states = [rule_state(number) for number in range(5000)]
    await stream.put_many(states)
    states = [changed(state) if number % 3 == 0 else state for number, state in enumerate(states)]
    await stream.put_many([state for number, state in enumerate(states) if number % 3 == 0])
    async with reading(nats_server.url, heartbeat_seconds=30) as it:
        await until(lambda: it.snapshots >= 1, within=15)
        assert it.states() == by_uid(*states)
        assert len(it.changes) == 5000
        newer = changed(states[0], parameters={"interval": 7})
        await stream.put(newer)
        await until(lambda: len(it.changes) == 5001, within=2)
        assert it.states()[newer.uid] == newer


async def test_rules_of_other_sensors_are_not_read(nats_server: NatsServer, stream: RuleStream) -> None:
    other = rule_state(2)
    await stream.js.publish(f"attune.rules.elsewhere.core_timer.{other.uid}", b"{}")
    await stream.put(rule_state(1))
    async with reading(nats_server.url) as it:
        await until(lambda: it.snapshots >= 1)
    assert it.states() == by_uid(rule_state(1))


async def test_tombstones_delete_in_the_snapshot_and_live(nats_server: NatsServer, stream: RuleStream) -> None:
    first, second = rule_state(1), rule_state(2)
    await stream.put(first)
    await stream.put(second)
    await stream.delete(first)
    async with reading(nats_server.url) as it:
        await until(lambda: it.snapshots >= 1)
        assert it.states() == by_uid(second)
        await stream.delete(second)
        await until(lambda: len(it.table) == 0)


async def test_state_that_a_tombstone_overtook_starts_no_rule(nats_server: NatsServer, stream: RuleStream) -> None:
    before, after = rule_state(1), rule_state(2)
    raised = changed(before)
    async with reading(nats_server.url) as it:
        await until(lambda: it.snapshots >= 1)
        await stream.put(raised)
        await stream.delete(raised)
        await stream.put(before)
        await stream.put(after)
        await until(lambda: after.uid in it.states())
    assert [(change.old is None, change.new is None) for change in it.changes if change.uid == before.uid] == [
        (True, False),
        (False, True),
    ]


async def test_malformed_messages_disturb_nobody(nats_server: NatsServer, stream: RuleStream) -> None:
    good, known = rule_state(1), rule_state(2)
    await stream.put_raw("not-a-rule", b"{broken")
    await stream.put(good)
    async with reading(nats_server.url, resync_seconds=1) as it:
        await until(lambda: it.snapshots >= 1)
        assert it.states() == by_uid(good)
        await stream.put(known)
        await until(lambda: len(it.table) == 2)
        await stream.put_raw(known.uid, b'{"uid": "another"}')
        before = it.snapshots
        await until(lambda: it.snapshots >= before + 2)
        assert it.states() == by_uid(good, known)
        count = it.metrics.registry.get_sample_value("attune_sensor_malformed_rule_messages_total")
        assert count is not None
        assert count >= 3


async def test_stream_that_is_not_there_yet_is_waited_for(nats_server: NatsServer) -> None:
    async with reading(nats_server.url) as it:
        writer = RuleStream(nats_server.url)
        await writer.connect()
        await until(lambda: it.connector.connected)
        await writer.make_streams()
        await writer.put(rule_state(1))
        await until(lambda: len(it.table) == 1)
        await writer.close()


async def test_server_that_starts_later_is_waited_for(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    async with reading(server.url) as it:
        await until(lambda: it.metrics.registry.get_sample_value("attune_sensor_nats_connected") == 0)
        server.start()
        try:
            writer = RuleStream(server.url)
            await writer.connect()
            await writer.make_streams()
            await writer.put(rule_state(1))
            await until(lambda: len(it.table) == 1)
            await writer.close()
        finally:
            server.stop()


async def test_killed_server_loses_no_change(nats_server: NatsServer, stream: RuleStream) -> None:
    first, second = rule_state(1), rule_state(2)
    await stream.put(first)
    async with reading(nats_server.url) as it:
        await until(lambda: it.snapshots >= 1)
        nats_server.kill()
        await until(lambda: not it.connector.connected)
        assert it.states() == by_uid(first), "known rules stay while NATS is away"
        nats_server.start()
        await stream.put(second)
        await until(lambda: it.states() == by_uid(first, second))
        assert "reconnect" in it.reasons()


async def test_changes_made_while_the_connection_was_cut_arrive(nats_server: NatsServer, stream: RuleStream) -> None:
    first, second = rule_state(1), rule_state(2)
    await stream.put_many([first, second])
    async with reading(nats_server.url) as it:
        await until(lambda: it.snapshots >= 1)
        newer = changed(second)
        await stream.delete(first)
        await stream.put(newer)
        it.connector.reconnect("the test says so")
        await until(lambda: it.snapshots >= 2)
        assert it.states() == by_uid(newer)


async def test_wiped_storage_keeps_rules_until_there_is_a_new_truth(
    nats_server: NatsServer, stream: RuleStream
) -> None:
    first, second = rule_state(1), rule_state(2)
    await stream.put_many([first, second])
    async with reading(nats_server.url, absence_seconds=120) as it:
        await until(lambda: it.snapshots >= 1)
        nats_server.wipe()
        nats_server.start()
        await until(lambda: it.connector.connected)
        assert it.states() == by_uid(first, second)
        await stream.make_streams()
        await until(lambda: it.snapshots >= 2)
        assert it.states() == by_uid(first, second), "the stream is empty because the operator is about to fill it"
        newer = changed(first)
        await stream.put_many([newer, second])
        await until(lambda: it.states() == by_uid(newer, second))
        assert [change.new for change in it.changes if change.new is None] == []


async def test_rule_that_a_new_stream_lacks_for_long_is_deleted(nats_server: NatsServer, stream: RuleStream) -> None:
    first, second = rule_state(1), rule_state(2)
    await stream.put_many([first, second])
    async with reading(nats_server.url, absence_seconds=0.5) as it:
        await until(lambda: it.snapshots >= 1)
        nats_server.wipe()
        nats_server.start()
        await stream.make_streams()
        await stream.put(second)
        await until(lambda: it.states() == by_uid(second))


@pytest.mark.parametrize("fewer", [True, False], ids=["shorter than before", "longer than before"])
async def test_stream_deleted_and_made_again_is_read_again(
    nats_server: NatsServer, stream: RuleStream, fewer: bool
) -> None:
    """nats-py's ordered consumer goes on at the old sequence here, and loses messages."""
    states = [rule_state(number) for number in range(10)]
    await stream.put_many(states)
    async with reading(nats_server.url) as it:
        await until(lambda: it.snapshots >= 1)
        await stream.delete_rules()
        await stream.make_streams()
        after = [changed(state) for state in (states[:3] if fewer else [*states, rule_state(99)])]
        await stream.put_many(after)
        await until(lambda: it.states() == by_uid(*after))
        assert it.reasons() - {"period"} <= {"silent", "ended", "gap"}


async def test_deleted_consumer_is_made_anew(nats_server: NatsServer, stream: RuleStream) -> None:
    async with reading(nats_server.url) as it:
        await until(lambda: it.snapshots >= 1)
        [consumer] = await stream.js.consumers_info(subjects.RULES_STREAM)
        await stream.js.delete_consumer(subjects.RULES_STREAM, consumer.name)
        await stream.put(rule_state(1))
        await until(lambda: len(it.table) == 1)


async def test_everything_is_read_again_periodically(nats_server: NatsServer, stream: RuleStream) -> None:
    await stream.put(rule_state(1))
    async with reading(nats_server.url, resync_seconds=0.3, heartbeat_seconds=30) as it:
        await until(lambda: it.snapshots >= 4)
        assert it.reasons() == {"period"}
        assert len(it.changes) == 1
        await stream.put(rule_state(2))
        await until(lambda: len(it.table) == 2)


async def test_old_consumers_do_not_pile_up(nats_server: NatsServer, stream: RuleStream) -> None:
    async with reading(nats_server.url, resync_seconds=0.1) as it:
        await until(lambda: it.snapshots >= 10)

    async def none_left() -> bool:
        return not await stream.js.consumers_info(subjects.RULES_STREAM)

    await until(none_left, within=20)


async def test_few_rights_are_enough(tmp_path: Path) -> None:
    """The rights that a sensor's credentials will give, and no others."""
    directory = tmp_path / "restricted"
    directory.mkdir()
    permissions = (
        f'publish = ["$JS.API.CONSUMER.CREATE.ATTUNE_RULES.*.{SENSOR_FILTER}", "$JS.API.CONSUMER.MSG.NEXT.ATTUNE_RULES.*", '
        f'"$JS.API.CONSUMER.DELETE.ATTUNE_RULES.*", '
        '"attune.acks.attune-system.core_timer.>"], subscribe = ["_INBOX_test.>"]'
    )
    server = NatsServer(
        directory,
        extra_config=(
            "authorization { users = [ {user: admin, password: admin}, "
            f"{{user: sensor, password: sensor, permissions: {{ {permissions} }} }} ] }}"
        ),
    )
    server.start()
    try:
        writer = RuleStream(server.url.replace("nats://", "nats://admin:admin@"))
        await writer.connect()
        await writer.make_streams()
        states = [rule_state(number) for number in range(3000)]
        await writer.put_many(states)
        async with reading(server.url.replace("nats://", "nats://sensor:sensor@"), heartbeat_seconds=30) as it:
            await until(lambda: it.states() == by_uid(*states))
            await writer.put(rule_state(9999))
            await until(lambda: len(it.table) == 3001)
        assert it.snapshots == 1
        await writer.close()
    finally:
        server.stop()
    assert "Permissions Violation" not in server.log.read_text()


async def test_wrong_password_is_said_and_retried(tmp_path: Path) -> None:
    directory = tmp_path / "closed"
    directory.mkdir()
    server = NatsServer(directory, extra_config="authorization { user: a, password: b }")
    server.start()
    try:
        async with reading(server.url.replace("nats://", "nats://a:wrong@")) as it:
            await until(lambda: it.connector._outage.ongoing)
            await until(lambda: server.log.read_text().count("authentication error") >= 2)
            assert not it.connector.connected
    finally:
        server.stop()
