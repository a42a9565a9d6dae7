"""Sensors made of functions, run under the testing harness."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, Field

import attune_sensor
from attune_kit.backoff import Backoff
from attune_sensor import AckState, InvalidRuleError, Sensor, Trigger
from attune_sensor._functions import FunctionHandler
from attune_sensor._parameters import read_parameters
from attune_sensor.testing import FakeClock, SensorHarness

TYPE = "acme.queue"


class QueueParameters(BaseModel):
    name: str
    depth: int = Field(default=1, ge=1)


class QueueStruct(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    depth: int = 1


def harness(function: Callable[[Trigger[Any]], Awaitable[None]], parameters: type[Any] | None = None) -> SensorHarness:
    sensor = Sensor()
    sensor.trigger(TYPE, parameters=parameters)(function)

    def quick(context: attune_sensor.SensorContext) -> FunctionHandler:
        made = sensor.handler(context)
        made._retry = Backoff(initial=0.01, maximum=0.02)
        return made

    return SensorHarness(quick, trigger_types=[TYPE])


async def test_function_is_called_for_each_rule_with_typed_parameters() -> None:
    async def watch(trigger: Trigger[QueueParameters]) -> None:
        await trigger.emit({"queue": trigger.parameters.name, "depth": trigger.parameters.depth})
        await asyncio.Event().wait()

    async with harness(watch, QueueParameters) as sensor:
        rule = sensor.apply(TYPE, {"name": "jobs"}, name="one")
        await sensor.wait_for(rule, AckState.ACTIVE)
        event = await sensor.next_event()
        assert event.payload == {"queue": "jobs", "depth": 1}
        assert (event.rule_name, event.rule_namespace, event.trigger_type) == ("one", "default", TYPE)
        sensor.apply(TYPE, {"name": "mail", "depth": 5}, name="two")
        assert (await sensor.next_event()).payload == {"queue": "mail", "depth": 5}


async def test_function_is_restarted_when_its_rule_changes_and_cancelled_when_it_stops() -> None:
    calls: list[str] = []

    async def watch(trigger: Trigger[Any]) -> None:
        calls.append(f"start {trigger.parameters['name']}")
        try:
            await asyncio.Event().wait()
        finally:
            calls.append(f"end {trigger.parameters['name']}")

    async with harness(watch) as sensor:
        rule = sensor.apply(TYPE, {"name": "a"})
        await sensor.wait_for(rule, AckState.ACTIVE)
        rule = sensor.apply(TYPE, {"name": "b"})
        await sensor.wait_for(rule, AckState.ACTIVE)
        rule = sensor.apply(TYPE, {"name": "b"}, enabled=False)
        await sensor.wait_for(rule, AckState.STOPPED)
        assert [call for call in calls if call.startswith("end")][-1:] in (["end b"], ["end a"])
        rule = sensor.apply(TYPE, {"name": "c"})
        await sensor.wait_for(rule, AckState.ACTIVE)
        sensor.delete(rule)
    assert calls.count("start c") == calls.count("end c")


async def test_same_occurrence_is_one_event() -> None:
    async def watch(trigger: Trigger[Any]) -> None:
        for occurrence in ("one", "one", "two"):
            await trigger.emit({}, occurrence=occurrence)
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        await trigger.emit({"by": "time"}, occurred_at=moment)
        await trigger.emit({"by": "time"}, occurred_at=moment)
        await trigger.emit({})
        await trigger.emit({})

    async with harness(watch) as sensor:
        await sensor.wait_for(sensor.apply(TYPE, {}), AckState.COMPLETED)
        for _ in range(5):
            await sensor.next_event()
    assert len(sensor.api.events) == 5


async def test_an_event_belongs_to_the_trace_that_the_author_names() -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def watch(trigger: Trigger[Any]) -> None:
        await trigger.emit({}, traceparent=traceparent, tracestate="a=1")
        await trigger.emit({}, traceparent="nonsense", tracestate="a=1")
        await trigger.emit({})

    async with harness(watch) as sensor:
        await sensor.wait_for(sensor.apply(TYPE, {}), AckState.COMPLETED)
        traces = [await sensor.next_event() for _ in range(3)]
    assert [(each.traceparent, each.tracestate) for each in traces] == [(traceparent, "a=1"), ("", ""), ("", "")]


async def test_function_that_returns_completes_its_rule() -> None:
    async def watch(_trigger: Trigger[Any]) -> None:
        return

    async with harness(watch) as sensor:
        await sensor.wait_for(sensor.apply(TYPE, {}), AckState.COMPLETED)


async def test_function_that_fails_is_called_again_and_says_so() -> None:
    attempts = 0

    async def watch(trigger: Trigger[Any]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise OSError("queue unreachable")
        await release.wait()
        await trigger.emit({})
        await asyncio.Event().wait()

    release = asyncio.Event()
    async with harness(watch) as sensor:
        rule = sensor.apply(TYPE, {})
        assert await sensor.wait_for(rule, AckState.FAILING) == "OSError: queue unreachable"
        release.set()
        await sensor.next_event()
        await sensor.wait_for(rule, AckState.ACTIVE)
    assert attempts == 3


async def test_function_may_reject_its_rule() -> None:
    async def watch(trigger: Trigger[Any]) -> None:
        raise InvalidRuleError(f"there is no queue {trigger.parameters['name']}")

    async with harness(watch) as sensor:
        rule = sensor.apply(TYPE, {"name": "jobs"})
        assert await sensor.wait_for(rule, AckState.REJECTED) == "there is no queue jobs"


async def test_time_without_a_zone_is_the_authors_error() -> None:
    async def watch(trigger: Trigger[Any]) -> None:
        await trigger.emit({}, occurred_at=datetime(2026, 1, 1))  # noqa: DTZ001

    async with harness(watch) as sensor:
        message = await sensor.wait_for(sensor.apply(TYPE, {}), AckState.FAILING)
    assert message == "ValueError: occurred_at has no zone; give one, like datetime.now(UTC)"


async def test_api_that_is_away_delays_events() -> None:
    async def watch(trigger: Trigger[Any]) -> None:
        await trigger.emit({"n": 1})

    async with harness(watch) as sensor:
        sensor.api.available = False
        await sensor.wait_for(sensor.apply(TYPE, {}), AckState.COMPLETED)
        assert sensor.api.events == []
        sensor.api.available = True
        assert (await sensor.next_event()).payload == {"n": 1}


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        (QueueParameters, {}, "parameters.name: Field required"),
        (QueueParameters, {"name": "a", "depth": 0}, "parameters.depth: Input should be greater than or equal to 1"),
        (QueueStruct, {}, "Object missing required field `name`"),
        (QueueStruct, {"name": 5}, "Expected `str`, got `int` - at `parameters.name`"),
        (QueueStruct, {"name": "a", "size": 1}, "unknown field `size`"),
    ],
)
async def test_parameters_that_do_not_fit_are_told(kind: type[Any], parameters: dict[str, Any], words: str) -> None:
    async def watch(_trigger: Trigger[Any]) -> None:
        raise AssertionError("not called")

    async with harness(watch, kind) as sensor:
        assert words in await sensor.wait_for(sensor.apply(TYPE, parameters), AckState.REJECTED)


def test_struct_parameters_are_read() -> None:
    assert read_parameters({"name": "a"}, QueueStruct) == QueueStruct(name="a")


def test_trigger_type_has_one_function() -> None:
    sensor = Sensor()

    async def watch(_trigger: Trigger[Any]) -> None: ...

    sensor.trigger(TYPE)(watch)
    with pytest.raises(ValueError, match="has a function already"):
        sensor.trigger(TYPE)(watch)


def test_importing_the_sdk_does_not_import_what_costs_memory() -> None:
    script = (
        "import attune_timer.__main__, sys; "
        "print(sorted({'pydantic', 'kubernetes', 'kopf', 'nkeys', 'nacl', 'httpx'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


async def test_a_clock_that_the_test_moves() -> None:
    async def watch(trigger: Trigger[dict[str, Any]]) -> None:
        while True:
            await trigger.sleep(trigger.parameters["every"])
            await trigger.emit({"at": trigger.now().isoformat()})

    midnight = datetime(2026, 1, 1, tzinfo=UTC)
    clock = FakeClock(midnight)
    sensor = Sensor()
    sensor.trigger(TYPE)(watch)
    async with SensorHarness(sensor.handler, trigger_types=[TYPE], clock=clock) as running:
        slow = running.apply(TYPE, {"every": 3600}, name="slow")
        await running.wait_for(slow, AckState.ACTIVE)
        await clock.wait_for_sleeper()
        assert slow.created_at == midnight
        await clock.advance(timedelta(minutes=59, seconds=59))
        assert running.undelivered == 0
        await clock.advance(timedelta(hours=2, seconds=1))
        for hour in (1, 2, 3):
            assert (await running.next_event()).occurred_at == midnight + timedelta(hours=hour)
        running.delete(slow)  # its sleep is cancelled, and wakes nobody
        quick = running.apply(TYPE, {"every": 1}, name="quick")
        await running.wait_for(quick, AckState.ACTIVE)
        await clock.wait_for_sleeper()
        await clock.advance(timedelta(seconds=3))
        found = [await running.next_event() for _ in range(3)]
        assert {event.rule_name for event in found} == {"quick"}
        with pytest.raises(TimeoutError):
            await FakeClock(midnight).wait_for_sleeper(within=0.01)


async def test_a_rule_whose_events_the_api_refuses_is_failing_until_it_takes_one() -> None:
    wanted = asyncio.Event()

    async def watch(trigger: Trigger[QueueParameters]) -> None:
        await trigger.emit({"depth": "many"}, occurrence="1")
        await wanted.wait()
        await trigger.emit({"depth": 1}, occurrence="2")
        await asyncio.Event().wait()

    async with harness(watch, QueueParameters) as sensor:
        sensor.api.refuse = lambda event: (
            "payload.depth: 'many' is not of type 'integer'" if event.payload == {"depth": "many"} else None
        )
        rule = sensor.apply(TYPE, {"name": "jobs"}, name="one")
        text = await sensor.wait_for(rule, AckState.FAILING)
        assert text.startswith("Nothing gets through: 1 event refused since ")
        assert text.endswith("the last reason: payload.depth: 'many' is not of type 'integer'.")
        wanted.set()
        assert "Not everything gets through" in await sensor.wait_for(rule, AckState.ACTIVE)


async def test_an_event_that_is_too_large_counts_as_refused() -> None:
    async def watch(trigger: Trigger[QueueParameters]) -> None:
        with contextlib.suppress(ValueError):
            await trigger.emit({"text": "x" * 2_000_000})
        await asyncio.Event().wait()

    async with harness(watch, QueueParameters) as sensor:
        rule = sensor.apply(TYPE, {"name": "jobs"}, name="one")
        assert "bytes; the API takes at most" in await sensor.wait_for(rule, AckState.FAILING)
