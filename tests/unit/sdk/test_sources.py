"""What reads queues: acknowledged only when stored, in order, each message one event, whatever fails or is killed."""

import asyncio
import contextlib
import itertools
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.eventually import PATIENCE, until

from attune_contract.events import EventReport, event_id
from attune_kit.backoff import Backoff
from attune_sensor import AckState, InvalidRuleError, Message, Rule, SensorContext, Source, SourceError, SourceHandler
from attune_sensor._api_client import Accepted, EventResult, Outcome, Unavailable
from attune_sensor._confirmations import Confirmation, Disposition
from attune_sensor._source_consumer import LARGEST
from attune_sensor._source_progress import is_settled, settle
from attune_sensor.testing import FakeApi, SensorHarness

TYPE = "acme.queue"
SOON = Backoff(initial=0.001, maximum=0.002)


@dataclass
class Broker:
    """A queue with partitions, which delivers again what was not acknowledged. ``faults`` are the next calls that fail."""

    messages: list[tuple[str, int]] = field(default_factory=list)  # partition and number, in the order of sending
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    sizes: dict[tuple[str, int], int] = field(default_factory=dict)
    batch: int = 3
    idle: float = 0.02
    reads: int = 0
    rules: int = 1
    away: str | None = None
    opened: int = 0
    held: int = 0
    api: FakeApi | None = None
    early: list[tuple[str, int]] = field(default_factory=list)  # acknowledged before they were stored
    sent: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, number: int, *, partition: str = "p", size: int = 10) -> None:
        self.messages.append((partition, number))
        self.sizes[partition, number] = size
        self.sent.set()

    def fault(self, call: str) -> None:
        if self.away is not None:
            raise SourceError(self.away)
        if self.faults and self.faults[0] == call:
            self.faults.pop(0)
            raise SourceError(f"{call} failed")
        if self.faults and self.faults[0] == f"{call} cancelled":
            self.faults.pop(0)
            raise asyncio.CancelledError

    @property
    def open_messages(self) -> list[tuple[str, int]]:
        done = set(self.acknowledged)
        return [message for message in self.messages if message not in done]


class BrokerSource:
    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.delivered: set[tuple[str, int]] = set()

    async def open(self) -> None:
        await asyncio.sleep(0)
        self.broker.fault("open")
        self.broker.opened += 1

    async def read(self) -> Sequence[Message]:
        if messages := await self.read_ahead():
            return messages
        self.broker.sent.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.broker.idle):
                await self.broker.sent.wait()
        return []

    async def read_ahead(self) -> Sequence[Message]:
        await asyncio.sleep(0)
        self.broker.fault("read")
        self.broker.reads += 1
        fresh = [message for message in self.broker.open_messages if message not in self.delivered]
        taken = fresh[: self.broker.batch]
        self.delivered.update(taken)
        return [
            Message(
                partition=partition,
                occurrence=f"{partition}/{number}",
                content=number,
                size=self.broker.sizes[partition, number],
                handle=(partition, number),
            )
            for partition, number in taken
        ]

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        self.broker.fault("acknowledge")
        await asyncio.sleep(0)
        if self.broker.api is not None:
            stored = Counter(event.payload["occurrence"] for event in self.broker.api.events)
            self.broker.early += [
                message.handle for message in messages if stored[message.occurrence] < self.broker.rules
            ]
        self.broker.acknowledged += [message.handle for message in messages]
        self.broker.fault("after-acknowledge")

    async def hold(self, messages: Sequence[Message]) -> None:
        self.broker.held += 1

    async def close(self) -> None:
        self.broker.fault("close")


class OneBatchSource:
    """The same without ``read_ahead``."""

    def __init__(self, broker: Broker) -> None:
        made = BrokerSource(broker)
        self.open, self.acknowledge, self.hold, self.close = made.open, made.acknowledge, made.hold, made.close
        self._made = made

    async def read(self) -> Sequence[Message]:
        assert not self._made.delivered - set(self._made.broker.acknowledged), "the batch before is under way"
        return await self._made.read()


@dataclass
class Kind:
    broker: Broker
    ahead: bool = True

    def subscription(self, rule: Rule) -> Hashable:
        if "queue" not in rule.parameters:
            raise InvalidRuleError("parameters.queue is missing")
        return str(rule.parameters["queue"])

    def describe(self, subscription: Any) -> str:
        return f"queue {subscription}"

    def connect(self, subscription: Any) -> Source:
        return BrokerSource(self.broker) if self.ahead else OneBatchSource(self.broker)

    def payload(self, rule: Rule, message: Message, *, whole: bool) -> dict[str, Any]:
        content = "x" * message.size if message.size > 10 and whole else message.content
        return {"occurrence": message.occurrence, "content": content if whole else None}


def harness(
    broker: Broker, *, api: FakeApi | None = None, spool: Path | None = None, ahead: bool = True
) -> SensorHarness:
    def handler(context: SensorContext) -> SourceHandler:
        return SourceHandler(context, Kind(broker, ahead), retry=SOON)

    made = SensorHarness(handler, trigger_types=[TYPE], api=api, spool=spool)
    broker.api = made.api
    return made


def of_partition(messages: Sequence[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for partition, number in messages:
        found[partition].append(number)
    return found


def occurrences(events: Sequence[EventReport]) -> list[tuple[str, int]]:
    split = [event.payload["occurrence"].split("/") for event in events]
    return [(partition, int(number)) for partition, number in split]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_of_each_partition_what_comes_before_the_first_unsettled_is_acknowledged(plan: list[tuple[str, bool]]) -> None:
    messages = [
        Message(partition=partition, occurrence=str(number), content=None, size=0)
        for number, (partition, _) in enumerate(plan)
    ]
    done, left = settle(messages, [safe for _, safe in plan])
    assert sorted(done + left, key=lambda message: int(message.occurrence)) == messages
    for partition in "abc":
        flags = [safe for each, safe in plan if each == partition]
        prefix = len(list(itertools.takewhile(bool, flags)))
        mine = [message for message in messages if message.partition == partition]
        assert [message for message in done if message.partition == partition] == mine[:prefix]
        assert [message for message in left if message.partition == partition] == mine[prefix:]


def test_what_is_on_the_spool_only_is_not_settled() -> None:
    settled = {
        disposition
        for disposition in Disposition
        if is_settled([Confirmation(Disposition.STORED), Confirmation(disposition)])
    }
    assert settled == {Disposition.STORED, Disposition.DUPLICATE, Disposition.REFUSED}


PLANS = st.fixed_dictionaries(
    {
        "partitions": st.lists(st.sampled_from("abc"), min_size=1, max_size=25),
        "batch": st.integers(1, 7),
        "lives": st.lists(
            st.fixed_dictionaries(
                {
                    "faults": st.lists(
                        st.sampled_from(["open", "read", "acknowledge", "after-acknowledge", "close"]), max_size=4
                    ),
                    "until": st.floats(0, 1),
                    "api_away": st.booleans(),
                }
            ),
            max_size=4,
        ),
    }
)


@settings(max_examples=60, deadline=None)
@given(PLANS)
def test_nothing_is_lost_doubled_or_acknowledged_early(plan: dict[str, Any]) -> None:
    asyncio.run(live_through(plan))


async def live_through(plan: dict[str, Any]) -> None:
    """Each life of the sensor ends without a goodbye when a share of the messages is acknowledged; the last goes on."""
    broker, api = Broker(batch=plan["batch"]), FakeApi()
    for number, partition in enumerate(plan["partitions"]):
        broker.send(number, partition=partition)
    total = len(broker.messages)
    for life in plan["lives"]:
        broker.faults = list(life["faults"])
        api.available = not life["api_away"]
        one = harness(broker, api=api)
        await one.__aenter__()
        one.apply(TYPE, {"queue": "jobs"})
        if api.available:
            await until(partial(_acknowledged, broker, life["until"] * total), every=0)
        else:
            await until(partial(_under_way, broker, one), every=0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # as SIGKILL: nobody says goodbye
        await asyncio.sleep(0)
    broker.faults, api.available = [], True
    async with harness(broker, api=api) as last:
        last.apply(TYPE, {"queue": "jobs"})
        await until(lambda: not broker.open_messages, every=0)
    assert sorted(occurrences(api.events)) == sorted(broker.messages)
    assert of_partition(occurrences(api.events)) == of_partition(broker.messages)
    assert broker.early == []


def _acknowledged(broker: Broker, number: float) -> bool:
    return len(broker.acknowledged) >= number


def _under_way(broker: Broker, sensor: SensorHarness) -> bool:
    return sensor.undelivered > 0 or not broker.open_messages


class SlowApi(FakeApi):
    """Answers its first request when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def post(self, events: Sequence[bytes]) -> Outcome:
        self.asked.set()
        await self.answer.wait()
        return await super().post(events)


class TroubledApi(FakeApi):
    """What happens to its next requests stands in ``plan``; then it works.

    ``late`` comes after some turns of the loop, ``away`` is no answer, ``lost`` stores and is no answer, ``bad`` is no JSON,
    and the name of a namespace has that namespace's events deferred for a moment.
    """

    def __init__(self, plan: Sequence[str]) -> None:
        super().__init__()
        self.plan = list(plan)

    async def post(self, events: Sequence[bytes]) -> Outcome:
        trouble = self.plan.pop(0) if self.plan else ""
        for _ in range(20 if trouble == "late" else 1):
            await asyncio.sleep(0)
        if trouble == "away":
            return Unavailable("connection", "the test says so")
        over = [trouble in ("both", json.loads(event)["rule_namespace"]) for event in events]
        taken = await super().post([event for event, deferred in zip(events, over, strict=True) if not deferred])
        if trouble == "lost":
            return Unavailable("connection", "the test has lost it")
        assert isinstance(taken, Accepted)
        results = iter(taken.results)
        later = EventResult("deferred", reason="the namespace is over its quota", retry_after=0.0001)
        return Accepted([later if deferred else next(results) for deferred in over])


WINDOWS = st.fixed_dictionaries(
    {
        "partitions": st.lists(st.sampled_from("abc"), min_size=1, max_size=40),
        "batch": st.integers(1, 9),
        "ahead": st.integers(1, 30),
        "group": st.integers(1, 8),
        "troubles": st.lists(st.sampled_from(["", "late", "away", "lost", "one", "two", "both"]), max_size=8),
        "faults": st.lists(st.sampled_from(["read", "acknowledge", "after-acknowledge", "close"]), max_size=3),
        "memory": st.sampled_from([None, 400, 5_000]),
        "spool": st.booleans(),
        "reads_ahead": st.sampled_from([True, True, True, False]),
    }
)


@settings(max_examples=80, deadline=None)
@given(WINDOWS)
def test_order_is_kept_and_nothing_is_lost_doubled_or_acknowledged_early_whatever_becomes_of_what_is_under_way(
    plan: dict[str, Any],
) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        mock.patch("attune_sensor._source_window.AHEAD", plan["ahead"]),
        mock.patch("attune_sensor._source_consumer._LOOK", 0.001),
        mock.patch("attune_sensor._forwarder.group_size", return_value=plan["group"]),
    ):
        asyncio.run(go_through(plan, Path(directory) if plan["spool"] else None))


async def go_through(plan: dict[str, Any], spool: Path | None) -> None:
    """Two rules in two namespaces read what is there; requests to the API and calls of the source fail by plan."""
    broker, api = Broker(batch=plan["batch"], rules=2), TroubledApi(plan["troubles"])
    async with harness(broker, api=api, spool=spool, ahead=plan["reads_ahead"]) as sensor:
        if plan["memory"] is not None:
            sensor._emitter._queue.limit = plan["memory"]
        rules = [sensor.apply(TYPE, {"queue": "jobs"}, name=f"rule-{each}", namespace=each) for each in ("one", "two")]
        for rule in rules:
            await sensor.wait_for(rule, AckState.ACTIVE)
        broker.faults = list(plan["faults"])
        for number, partition in enumerate(plan["partitions"]):
            broker.send(number, partition=partition)
        await until(lambda: not broker.open_messages, every=0)
    for rule in rules:
        events = occurrences([event for event in api.events if event.rule_uid == rule.uid])
        assert sorted(events) == sorted(broker.messages)
        assert of_partition(events) == of_partition(broker.messages)
    assert broker.early == []


async def test_rules_with_the_same_subscription_share_a_source() -> None:
    broker = Broker()
    async with harness(broker) as sensor:
        rules = [sensor.apply(TYPE, {"queue": "jobs"}, name=name) for name in ("one", "two")]
        for rule in rules:
            await sensor.wait_for(rule, AckState.ACTIVE)
        broker.send(1)
        events = [await sensor.next_event() for _ in rules]
        assert {event.id for event in events} == {event_id(rule.uid, "p/1") for rule in rules}
        assert broker.opened == 1
        sensor.delete(rules[0])
        await until(lambda: rules[0].uid not in sensor._acks.latest)
        broker.send(2)
        assert (await sensor.next_event()).rule_uid == rules[1].uid
        assert broker.opened == 1


async def test_a_rule_that_asks_for_something_else_gets_another_source() -> None:
    broker = Broker()
    async with harness(broker) as sensor:
        await sensor.wait_for(sensor.apply(TYPE, {"queue": "jobs"}), AckState.ACTIVE)
        await sensor.wait_for(sensor.apply(TYPE, {"queue": "others"}), AckState.ACTIVE)
        assert broker.opened == 2
        await sensor.wait_for(sensor.apply(TYPE, {}), AckState.REJECTED)


async def test_a_source_that_is_away_is_failing_with_the_reason_and_active_again() -> None:
    broker = Broker(away="nobody listens at queue.example:6379")
    async with harness(broker) as sensor:
        rule = sensor.apply(TYPE, {"queue": "jobs"})
        assert await sensor.wait_for(rule, AckState.FAILING) == "queue jobs: nobody listens at queue.example:6379"
        later = sensor.apply(TYPE, {"queue": "jobs"}, name="later")
        await sensor.wait_for(later, AckState.FAILING)
        broker.away = None
        await sensor.wait_for(rule, AckState.ACTIVE)
        await sensor.wait_for(later, AckState.ACTIVE)
        broker.away = "it was shut down"
        assert await sensor.wait_for(rule, AckState.FAILING) == "queue jobs: it was shut down"


@pytest.mark.parametrize("call", ["open", "read", "acknowledge"])
async def test_a_client_that_cancels_its_own_call_does_not_end_the_reading(call: str) -> None:
    broker = Broker(faults=[f"{call} cancelled"])
    async with harness(broker) as sensor:
        rule = sensor.apply(TYPE, {"queue": "orders"})
        broker.send(1)
        await sensor.next_event()
        await until(lambda: broker.acknowledged == [("p", 1)])
        await sensor.wait_for(rule, AckState.ACTIVE)
    assert broker.opened == (1 if call == "open" else 2)
    assert not broker.faults


@pytest.mark.parametrize("bound", ["AHEAD", "AHEAD_BYTES", "SHARED_BYTES"])
async def test_no_more_is_read_while_the_api_is_away_than_may_be_under_way(
    bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attune_sensor._source_consumer._HOLD", 0.05)
    monkeypatch.setattr(f"attune_sensor._source_window.{bound}", 5 if bound == "AHEAD" else 50)
    broker = Broker()
    async with harness(broker) as sensor:
        await sensor.wait_for(sensor.apply(TYPE, {"queue": "jobs"}), AckState.ACTIVE)
        sensor.api.available = False
        for number in range(20):
            broker.send(number, size=10)
        await until(lambda: sensor.undelivered == 6)
        reads = broker.reads
        await until(lambda: broker.held > 0)
        assert (broker.reads, sensor.undelivered) == (reads, 6)
        assert broker.acknowledged == []
        sensor.api.available = True
        await until(lambda: not broker.open_messages)
        assert occurrences(sensor.api.events) == broker.messages
        assert broker.early == []


async def test_messages_that_come_while_the_api_stores_are_read() -> None:
    """The API answers nothing until all are read, in several batches."""
    broker = Broker(batch=10)
    api = SlowApi()
    async with harness(broker, api=api) as sensor:
        await sensor.wait_for(sensor.apply(TYPE, {"queue": "jobs"}), AckState.ACTIVE)
        for number in range(10):
            broker.send(number)
        await api.asked.wait()
        for number in range(10, 30):
            broker.send(number)
        await until(lambda: sensor.undelivered == 30)
        assert broker.acknowledged == []
        api.answer.set()
        await until(lambda: not broker.open_messages)
    assert occurrences(api.events) == broker.messages
    assert broker.early == []


async def test_what_comes_after_something_deferred_is_not_stored_before_it() -> None:
    """Two requests' worth of messages: the first request is deferred, for less time than the second needs."""
    broker = Broker(batch=100)
    api = TroubledApi(["late", "default"])
    async with harness(broker, api=api) as sensor:
        await sensor.wait_for(sensor.apply(TYPE, {"queue": "jobs"}), AckState.ACTIVE)
        for number in range(300):
            broker.send(number)
        await until(lambda: not broker.open_messages)
    assert not api.plan
    assert occurrences(api.events) == broker.messages


async def test_what_is_on_the_spool_is_acknowledged_when_the_api_has_it(tmp_path: Path) -> None:
    broker = Broker()
    async with harness(broker, spool=tmp_path) as sensor:
        await sensor.wait_for(sensor.apply(TYPE, {"queue": "jobs"}), AckState.ACTIVE)
        sensor.api.available = False
        for number in range(7):
            broker.send(number)
        await until(lambda: any(path.stat().st_size for path in tmp_path.glob("*.segment")))
        assert broker.acknowledged == []
        sensor.api.available = True
        await until(lambda: not broker.open_messages)
        assert occurrences(sensor.api.events) == broker.messages
        assert broker.early == []


async def test_what_is_too_large_is_reported_by_reference_and_does_not_stop_the_rest() -> None:
    broker = Broker()
    async with harness(broker) as sensor:
        rule = sensor.apply(TYPE, {"queue": "jobs"})
        await sensor.wait_for(rule, AckState.ACTIVE)
        broker.send(1, size=LARGEST + 1)
        broker.send(2)
        assert [(await sensor.next_event()).payload["content"] for _ in range(2)] == [None, 2]
        await until(lambda: not broker.open_messages)
        await until(lambda: f"{LARGEST + 1} bytes" in sensor.message(rule))


async def test_what_json_makes_too_large_is_reported_by_reference_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune_sensor._source_consumer.LARGEST", 10**9)
    broker = Broker()
    async with harness(broker) as sensor:
        await sensor.wait_for(sensor.apply(TYPE, {"queue": "jobs"}), AckState.ACTIVE)
        broker.send(1, size=1_100_000)
        broker.send(2)
        assert [(await sensor.next_event()).payload["content"] for _ in range(2)] == [None, 2]


async def test_what_the_api_refuses_is_acknowledged_and_told() -> None:
    broker = Broker()
    async with harness(broker) as sensor:
        rule = sensor.apply(TYPE, {"queue": "jobs"})
        await sensor.wait_for(rule, AckState.ACTIVE)
        sensor.api.refuse = lambda event: "not like this" if event.payload["content"] == 1 else None
        broker.send(1)
        broker.send(2)
        assert (await sensor.next_event()).payload["content"] == 2
        await until(lambda: broker.open_messages == [])
        await until(lambda: "not like this" in sensor.message(rule))


async def test_what_is_under_way_at_the_end_is_stored_and_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune_sensor._source_consumer._PATIENCE", PATIENCE)
    broker = Broker(batch=10)
    sensor = harness(broker)
    async with sensor:
        await sensor.wait_for(sensor.apply(TYPE, {"queue": "jobs"}), AckState.ACTIVE)
        sensor.api.available = False
        for number in range(5):
            broker.send(number)
        await until(lambda: sensor.undelivered > 0)
        sensor.api.available = True
    # What was read is stored; whether the rest was read depends on when the sensor ended.
    assert broker.acknowledged == occurrences(sensor.api.events) == broker.messages[: len(broker.acknowledged)]
    assert broker.acknowledged


async def test_a_source_that_waits_for_messages_is_left_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune_sensor._source_consumer._PATIENCE", 2 * PATIENCE)
    broker = Broker(idle=2 * PATIENCE)
    sensor = harness(broker)
    await sensor.__aenter__()
    await sensor.wait_for(sensor.apply(TYPE, {"queue": "jobs"}), AckState.ACTIVE)
    broker.send(1)
    await until(lambda: broker.acknowledged == [("p", 1)])
    reads = broker.reads
    await until(lambda: broker.reads > reads)  # it waits for the next one
    async with asyncio.timeout(PATIENCE):
        await sensor.__aexit__(None, None, None)


async def test_a_loss_is_said_in_the_rules_that_read_it_and_they_stay_active() -> None:
    broker = Broker()
    handlers: list[SourceHandler] = []

    def handler(context: SensorContext) -> SourceHandler:
        handlers.append(SourceHandler(context, Kind(broker), retry=SOON))
        return handlers[-1]

    async with SensorHarness(handler, trigger_types=[TYPE]) as sensor:
        mine = sensor.apply(TYPE, {"queue": "jobs"}, name="mine")
        other = sensor.apply(TYPE, {"queue": "other"}, name="other")
        for rule in (mine, other):
            await sensor.wait_for(rule, AckState.ACTIVE)
        handlers[0].remark("jobs", "the messages 1 to 3 are gone")
        await until(lambda: "the last reason: the messages 1 to 3 are gone" in sensor.message(mine))
        await sensor.wait_for(mine, AckState.ACTIVE)
        assert sensor.message(other) == ""
        handlers[0].remark("unknown", "no rule reads it")


class Dividing(Kind):
    """Message 3 tells three things, message 2 two, and message 0 nothing."""

    def split(self, rule: Rule, message: Message) -> Sequence[Message]:
        return [
            msgspec.structs.replace(message, occurrence=f"p/{message.content}{part}") for part in range(message.content)
        ]


async def test_a_message_that_tells_several_things_is_acknowledged_when_all_are_stored() -> None:
    broker, api = Broker(), FakeApi()
    for number in (3, 0, 2):
        broker.send(number)

    def handler(context: SensorContext) -> SourceHandler:
        return SourceHandler(context, Dividing(broker), retry=SOON)

    api.available = False
    async with SensorHarness(handler, trigger_types=[TYPE], api=api) as made:
        made.apply(TYPE, {"queue": "jobs"})
        await until(lambda: broker.held > 0)
        assert broker.acknowledged == []
        api.available = True
        await until(lambda: len(broker.acknowledged) == 3)
    assert [event.payload["occurrence"] for event in api.events] == ["p/30", "p/31", "p/32", "p/20", "p/21"]
    assert len({event.id for event in api.events}) == 5
