"""Timer rules under the SDK's own testing harness, with a clock that the test sets."""

import asyncio
import re
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import msgspec
import pytest
from support.eventually import until

from attune_contract.messages import NEVER_FIRES
from attune_sensor import AckState, LastEvent, SensorContext
from attune_sensor.testing import FakeApi, FakeClock, SensorHarness
from attune_timer import instants
from attune_timer.handler import TimerHandler, event_of
from attune_timer.jitter import delay
from attune_timer.schedule import Occurrence

TYPE = "core.intervaltimer"


async def test_hourly_timer_fires_when_the_clock_says_so() -> None:
    clock = FakeClock(datetime(2026, 3, 1, 10, 20, tzinfo=UTC))
    async with SensorHarness(lambda context: TimerHandler(context, wall=clock), trigger_types=[TYPE]) as harness:
        rule = harness.apply(TYPE, {"interval": 1, "unit": "hours", "anchor": "2026-01-01T00:30:00Z"})
        await harness.wait_for(rule, AckState.ACTIVE)
        clock.time += timedelta(minutes=10, seconds=2)
        event = await harness.next_event()
    assert event.occurred_at == datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
    assert event.payload == {
        "scheduled_at": "2026-03-01T10:30:00.000000Z",
        "fired_at": "2026-03-01T10:30:02.000000Z",
        "k": 59 * 24 + 10,
        "rule": "default/rule",
    }


async def test_how_late_it_was_is_in_the_metrics_without_its_jitter() -> None:
    clock = FakeClock(datetime(2026, 3, 1, 10, 20, tzinfo=UTC))
    hourly = {"interval": 1, "unit": "hours", "anchor": "2026-01-01T00:30:00Z", "jitter": 60}
    async with SensorHarness(lambda context: TimerHandler(context, wall=clock), trigger_types=[TYPE]) as harness:
        rule = harness.apply(TYPE, hourly)
        await harness.wait_for(rule, AckState.ACTIVE)
        clock.time += timedelta(minutes=10)
        at = instants.from_datetime(clock.time)
        jitter = timedelta(microseconds=delay(key=rule.uid, at=at, most=60_000_000))
        clock.time += jitter + timedelta(seconds=2)
        await harness.next_event()
        value = harness.metrics.registry.get_sample_value
        await until(lambda: value("attune_timer_lateness_seconds_count") == 1)
        assert value("attune_timer_lateness_seconds_sum") == pytest.approx(2)


async def test_timer_that_ends_is_completed_and_one_that_is_changed_goes_on() -> None:
    clock = FakeClock(datetime(2026, 3, 1, tzinfo=UTC))
    async with SensorHarness(lambda context: TimerHandler(context, wall=clock), trigger_types=[TYPE]) as harness:
        anchored = {"anchor": "2026-03-01T00:00:10Z", "interval": 10}
        rule = harness.apply(TYPE, {**anchored, "end": "2026-03-01T00:00:15Z"})
        await harness.wait_for(rule, AckState.ACTIVE)
        clock.time += timedelta(seconds=11)
        assert (await harness.next_event()).payload["k"] == 0
        await harness.wait_for(rule, AckState.COMPLETED)
        rule = harness.apply(TYPE, anchored)
        await harness.wait_for(rule, AckState.ACTIVE)
        clock.time += timedelta(seconds=10)
        assert (await harness.next_event()).payload["k"] == 1


DATETIME = "core.datetimetimer"
CRON = "core.crontimer"
MORNING = datetime(2026, 3, 1, tzinfo=UTC)


def sensor(clock: FakeClock, api: FakeApi | None = None) -> SensorHarness:
    return SensorHarness(
        lambda context: TimerHandler(context, wall=clock), trigger_types=[TYPE, DATETIME, CRON], api=api
    )


def fired(api: FakeApi) -> list[datetime]:
    return [event.occurred_at for event in api.events]


async def test_restarted_sensor_fires_what_it_missed_after_the_last_stored_event() -> None:
    clock = FakeClock(MORNING)
    every_hour = {"interval": 1, "unit": "hours", "anchor": "2026-03-01T00:00:00Z", "missed": "all"}
    async with sensor(clock) as harness:
        rule = harness.apply(TYPE, every_hour, since=MORNING)
        await harness.wait_for(rule, AckState.ACTIVE)
        clock.time += timedelta(hours=1)
        await harness.next_event()
    clock.time += timedelta(hours=4, minutes=10)
    async with sensor(clock, harness.api) as again:
        again.apply(TYPE, every_hour, since=MORNING)
        events = [await again.next_event() for _ in range(4)]
        clock.time += timedelta(minutes=50)
        events.append(await again.next_event())
    assert [event.payload["k"] for event in events] == [2, 3, 4, 5, 6]
    assert fired(harness.api) == [MORNING + timedelta(hours=hour) for hour in range(1, 7)]


async def test_while_the_api_is_away_at_the_start_nothing_is_lost_and_order_is_kept() -> None:
    clock = FakeClock(MORNING + timedelta(hours=3))
    hourly = {"cron": "@hourly", "missed": "all", "maxMissed": 2}
    prompt = {"interval": 1, "unit": "hours", "anchor": "2026-03-01T00:30:00Z"}
    async with sensor(clock) as harness:
        harness.api.available = False
        catching_up = harness.apply(CRON, hourly, name="catching-up", since=MORNING)
        await harness.wait_for(catching_up, AckState.ACTIVE)
        skipping = harness.apply(TYPE, prompt, name="skipping", since=MORNING)
        await harness.wait_for(skipping, AckState.ACTIVE)
        for _ in range(8):
            clock.time += timedelta(minutes=30)
            wanted = (clock.time - MORNING - timedelta(hours=2, minutes=30)) // timedelta(hours=1)
            await until(lambda wanted=wanted: harness.undelivered >= wanted)  # type: ignore[misc]
        harness.api.available = True
        await harness.api.wait_for(10, within=60)
    by_rule = {
        rule.uid: [event.occurred_at for event in harness.api.events if event.rule_uid == rule.uid]
        for rule in (catching_up, skipping)
    }
    assert by_rule[skipping.uid] == [MORNING + timedelta(hours=hour, minutes=30) for hour in range(3, 7)]
    # Of three missed ones the latest two, and all that came while the API was away.
    assert by_rule[catching_up.uid] == [MORNING + timedelta(hours=hour) for hour in range(2, 8)]


async def test_one_time_rule_fires_late_once_and_not_again_after_a_restart() -> None:
    clock = FakeClock(MORNING + timedelta(hours=2))
    at_one = {"at": "2026-03-01T01:00:00Z"}
    async with sensor(clock) as harness:
        rule = harness.apply(DATETIME, at_one, since=MORNING)
        await harness.next_event()
        await harness.wait_for(rule, AckState.COMPLETED)
    async with sensor(clock, harness.api) as again:
        rule = again.apply(DATETIME, at_one, since=MORNING)
        await again.wait_for(rule, AckState.COMPLETED)
    assert fired(harness.api) == [MORNING + timedelta(hours=1)]


async def test_one_time_rule_whose_time_was_over_when_it_was_made_never_fires() -> None:
    clock = FakeClock(MORNING + timedelta(hours=2))
    async with sensor(clock) as harness:
        rule = harness.apply(DATETIME, {"at": "2026-03-01T01:00:00Z"}, since=MORNING + timedelta(hours=2))
        assert (await harness.wait_for(rule, AckState.COMPLETED)).startswith(NEVER_FIRES)
    assert harness.api.events == []


async def test_a_rule_that_is_not_due_for_long_says_until_when() -> None:
    async with sensor(FakeClock(MORNING)) as harness:
        leap = harness.apply(CRON, {"cron": "0 12 29 2 *"}, name="leap", since=MORNING)
        assert await harness.wait_for(leap, AckState.ACTIVE) == "No event is due before 2028-02-29T12:00:00Z."
        soon = harness.apply(CRON, {"cron": "@hourly"}, name="soon", since=MORNING)
        assert await harness.wait_for(soon, AckState.ACTIVE) == ""


async def test_it_says_when_a_rule_is_due_next_where_that_can_be_read_in_time() -> None:
    clock = FakeClock(MORNING)
    async with sensor(clock) as harness:
        hourly = harness.apply(CRON, {"cron": "@hourly"}, name="hourly", since=MORNING)
        often = harness.apply(TYPE, {"interval": 5, "anchor": "2026-03-01T00:00:00Z"}, name="often", since=MORNING)
        await harness.wait_for(hourly, AckState.ACTIVE)
        await harness.wait_for(often, AckState.ACTIVE)
        assert (harness.next_at(hourly), harness.next_at(often)) == (MORNING + timedelta(hours=1), None)
        clock.time += timedelta(hours=1)
        await until(lambda: harness.next_at(hourly) == MORNING + timedelta(hours=2))
        clock.time += timedelta(hours=1)
        await until(lambda: harness.next_at(hourly) == MORNING + timedelta(hours=3))
        changed = harness.apply(CRON, {"cron": "* * * * * *"}, name="hourly", since=clock.time)
        await harness.wait_for(changed, AckState.ACTIVE)
        assert harness.next_at(changed) is None


async def test_a_rule_that_has_missed_much_says_what_comes_next_not_what_it_missed() -> None:
    clock = FakeClock(MORNING + timedelta(hours=3, minutes=30))
    async with sensor(clock) as harness:
        rule = harness.apply(CRON, {"cron": "@hourly", "missed": "all"}, since=MORNING)
        for _ in range(3):
            await harness.next_event()
        await until(lambda: harness.next_at(rule) == MORNING + timedelta(hours=4))


async def test_rule_that_goes_while_it_waits_for_the_api_fires_nothing() -> None:
    clock = FakeClock(MORNING + timedelta(hours=3))
    async with sensor(clock) as harness:
        harness.api.available = False
        gone = harness.apply(CRON, {"cron": "@hourly", "missed": "all"}, name="gone", since=MORNING)
        await harness.wait_for(gone, AckState.ACTIVE)
        disabled = harness.apply(CRON, {"cron": "@hourly", "missed": "all"}, name="gone", enabled=False)
        await harness.wait_for(disabled, AckState.STOPPED)
        harness.api.available = True
        stays = harness.apply(CRON, {"cron": "@hourly", "missed": "once"}, name="stays", since=MORNING)
        event = await harness.next_event()
    assert event.rule_uid == stays.uid
    assert len(harness.api.events) == 1


async def test_catch_up_that_died_shows_in_health() -> None:
    handlers: list[TimerHandler] = []

    def make(context: SensorContext) -> TimerHandler:
        async def broken(_uids: object) -> dict[str, LastEvent]:
            raise RuntimeError("as the test wants")

        context.last_events = broken  # type: ignore[assignment,method-assign]
        handlers.append(TimerHandler(context, wall=FakeClock(MORNING)))
        return handlers[0]

    async with SensorHarness(make, trigger_types=[CRON]) as harness:
        rule = harness.apply(CRON, {"cron": "@hourly", "missed": "all"}, since=MORNING - timedelta(hours=3))
        await harness.wait_for(rule, AckState.ACTIVE)
        await until(lambda: "as the test wants" in (handlers[0]._missed.problem() or ""))


# -- the wall clock is set while the sensor runs: the table of docs/timers.md

DOCUMENT = (Path(__file__).parents[3] / "docs" / "timers.md").read_text()
ROW = re.compile(r"^\| (?:back|forward) to ([0-9:]+) \| `([a-z]+)` \| ([^|]+) \| ([0-9:]+) \|$", re.MULTILINE)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def on_that_day(text: str) -> datetime:
    return datetime.combine(NOON.date(), time.fromisoformat(text), UTC)


def new_events(text: str) -> list[datetime]:
    """``none: …``, ``13:00`` or ``12:01 to 13:00``."""
    if text.startswith("none"):
        return []
    first, _, last = text.partition(" to ")
    begin, end = on_that_day(first), on_that_day(last or first)
    return [begin + number * MINUTE for number in range((end - begin) // MINUTE + 1)]


async def set_the_clock(to: str, missed: str, expected: str, goes_on: str) -> None:
    """One row, with the clock's own thread."""
    clock, api = FakeClock(NOON + timedelta(seconds=30)), FakeApi()
    handlers: list[TimerHandler] = []

    def handler(context: SensorContext) -> TimerHandler:
        handlers.append(TimerHandler(context, wall=clock))
        return handlers[0]

    reported: list[datetime] = []
    async with SensorHarness(handler, trigger_types=[TYPE], api=api) as harness:
        parameters = {"interval": 1, "unit": "minutes", "anchor": "2026-03-01T00:00:00Z", "missed": missed}
        # Disabled at first, so that what was fired in the hours before can be stored: the sensor has been running.
        rule = harness.apply(TYPE, parameters, enabled=False, created_at=MORNING, since=MORNING)
        for k in range(1, 721):
            occurrence = Occurrence(instants.from_datetime(MORNING) + k * 60_000_000, k)
            await api.post([msgspec.json.encode(event_of(rule, occurrence, fired_at=occurrence.at))])
        before = len(api.events)
        api.refuse = lambda event: reported.append(event.occurred_at)
        rule = harness.apply(TYPE, parameters, created_at=MORNING, since=MORNING)
        await harness.wait_for(rule, AckState.ACTIVE)
        heap = handlers[0]._clock._heap
        await until(lambda: heap.due_at() == instants.from_datetime(NOON + MINUTE), within=10)
        clock.time = on_that_day(to)
        following = on_that_day(goes_on)
        await until(lambda: heap.due_at() == instants.from_datetime(following) and not heap.behind, within=10)
        clock.time = following
        await until(lambda: following in reported, within=10)
        await until(lambda: harness.undelivered == 0, within=10)
    stored = [event.occurred_at for event in api.events[before:]]
    assert [moment for moment in stored if moment != following] == new_events(expected), (to, missed)


async def test_each_row_of_the_table_when_the_wall_clock_is_set() -> None:
    rows = ROW.findall(DOCUMENT)
    assert len(rows) == 6
    await asyncio.gather(*(set_the_clock(*row) for row in rows))
