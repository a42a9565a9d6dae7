"""The handler of rules about events, with an API in memory that is away, refuses, and forgets."""

from datetime import timedelta
from typing import Any

import pytest
from support.eventually import until
from support.pattern_api import PatternApi

from attune_patterns import handler, reader, serving
from attune_patterns.handler import PatternHandler
from attune_sensor import AckState, Rule
from attune_sensor.testing import SensorHarness

TYPES = ["core.absent", "core.count"]
HOUR = timedelta(hours=1)


def sensor(api: PatternApi) -> SensorHarness:
    return SensorHarness(PatternHandler, trigger_types=TYPES, api=api)


async def active(harness: SensorHarness, kind: str, name: str = "rule", **parameters: Any) -> Rule:
    rule = harness.apply(kind, {"rules": ["a"], **parameters}, name=name)
    await harness.wait_for(rule, AckState.ACTIVE)
    return rule


async def heard(api: PatternApi, number: int) -> None:
    """Wait until so many events of rules about events are stored."""
    await until(lambda: len(api.events) >= number, within=30)


async def away(api: PatternApi, harness: SensorHarness, rule: Rule) -> None:
    """Have the API away until that is noticed."""
    api.available = False
    await harness.wait_for(rule, AckState.FAILING)


async def test_after_an_outage_nothing_is_missing_before_sensors_have_delivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "_OUTAGE", 0.0)
    monkeypatch.setattr(reader, "SETTLE", 3600.0)  # however long this machine takes
    api = PatternApi()
    async with sensor(api) as harness:
        absent = await active(harness, "core.absent", "absent", within="1m")
        await active(harness, "core.count", "count", count=2, within="1m")
        await away(api, harness, absent)
        api.ahead = HOUR
        api.available = True
        api.store("a", {}, ago=2)  # what a sensor had on its disk
        api.store("a", {}, ago=1)
        await harness.wait_for(absent, AckState.ACTIVE)
        await heard(api, 1)
        assert [event.rule_name for event in api.events] == ["count"]
        api.ahead += timedelta(seconds=50)
        api.store("a", {})
        await until(lambda: api.states and len(api.log) == 3, within=30)
    assert [event.rule_name for event in api.events] == ["count"]


async def test_after_that_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_OUTAGE", 0.0)
    monkeypatch.setattr(reader, "SETTLE", 0.0)
    api = PatternApi()
    async with sensor(api) as harness:
        absent = await active(harness, "core.absent", within="1m")
        began = api.now()
        await away(api, harness, absent)
        api.ahead = HOUR
        api.available = True
        event = await harness.next_event()
    assert event.payload["status"] == "missing"
    assert event.payload["last_heard"] is None
    assert abs(event.occurred_at - began - timedelta(minutes=1)) < timedelta(seconds=30)
    assert len(api.events) == 1


async def test_a_rule_that_the_api_does_not_know_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "_LOADS", 0.5)
    api = PatternApi()
    async with sensor(api) as harness:
        await active(harness, "core.count", "good", count=2, within="1m")
        unknown = harness.apply("core.count", {"rules": ["a"], "count": 2, "within": "1m"}, name="unknown")
        api.refused.add(unknown.uid)
        assert "The test says so" in await harness.wait_for(unknown, AckState.FAILING)
        api.store("a", {})
        api.store("a", {})
        assert (await harness.next_event()).rule_name == "good"
        api.refused.clear()
        await harness.wait_for(unknown, AckState.ACTIVE)


async def test_conditions_keys_and_loops() -> None:
    api = PatternApi()
    async with sensor(api) as harness:
        await active(
            harness, "core.count", count=2, within="1m", key="event.payload.k", when="event.payload.n > 1", maxKeys=10
        )
        for payload in ({"k": "x", "n": 1}, {"k": "x", "n": 2}, {"n": 2}, {"k": None, "n": 2}):
            api.store("a", payload)
        api.store("a", {"k": "x", "n": 2, "pattern": {"hops": 8}}, kind="core.count")  # of a loop
        api.store("a", {"k": "x", "n": 3, "pattern": {"hops": 7}}, kind="core.count")
        event = await harness.next_event()
        assert event.payload["key"] == "x"
        assert event.payload["count"] == 2
        assert event.payload["pattern"] == {"hops": 8}
        assert event.payload["last"]["payload"]["n"] == 3
        wrong = harness.apply("core.count", {"rules": ["a"], "count": 2, "within": "1m", "key": "evnt.x"}, name="wrong")
        assert "parameters.key is not a CEL expression" in await harness.wait_for(wrong, AckState.REJECTED)


async def test_keys_that_are_given_up_are_in_the_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_TOLD_EVERY", 0.0)
    api = PatternApi()
    async with sensor(api) as harness:
        rule = await active(harness, "core.absent", within="1h", key="event.payload.k", maxKeys=2)
        for key in "abcd":
            api.store("a", {"k": key})
        await until(
            lambda: harness.message(rule).startswith("2 keys that were idle the longest were given up"), within=30
        )


async def test_a_state_that_could_not_be_kept_is_kept_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_PAUSE", 0.0)
    api = PatternApi()
    async with sensor(api) as harness:
        rule = await active(harness, "core.count", count=2, within="1h")
        before = api.states[rule.uid]
        api.unwritable = True
        api.store("a", {})
        assert "The test says so" in await harness.wait_for(rule, AckState.FAILING)
        assert api.states[rule.uid] == before
        api.unwritable = False
        await harness.wait_for(rule, AckState.ACTIVE)
        await until(lambda: api.states[rule.uid] != before, within=30)


async def test_a_restored_database_is_read_from_where_it_ends() -> None:
    api = PatternApi()
    async with sensor(api) as harness:
        rule = await active(harness, "core.count", count=2, within="1h")
        backup = api.states[rule.uid]
        api.store("a", {})
        api.store("b", {})
        api.store("a", {})
        assert (await harness.next_event()).payload["count"] == 2
        api.log.clear()
        api.states[rule.uid] = backup
        api.store("a", {})
        await until(lambda: api.after == 1, within=30)
        api.store("a", {})
        api.store("a", {})
        assert (await harness.next_event()).payload["count"] == 2
