"""Timer rules under the SDK's own testing harness, with a clock that the test sets."""

from datetime import UTC, datetime, timedelta

from attune_sensor import AckState
from attune_sensor.testing import FakeClock, SensorHarness
from attune_timer.handler import TimerHandler

TYPE = "core.intervaltimer"


async def test_hourly_timer_fires_when_the_clock_says_so() -> None:
    clock = FakeClock(datetime(2026, 3, 1, 10, 20, tzinfo=UTC))
    async with SensorHarness(lambda context: TimerHandler(context, wall=clock), trigger_types=[TYPE]) as harness:
        rule = harness.apply(TYPE, {"interval": 1, "unit": "hours", "anchor": "2026-01-01T00:30:00Z"})
        await harness.wait_for(rule, AckState.ACTIVE)
        clock.now += timedelta(minutes=10, seconds=2)
        event = await harness.next_event()
    assert event.occurred_at == datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
    assert event.payload == {
        "scheduled_at": "2026-03-01T10:30:00.000000Z",
        "fired_at": "2026-03-01T10:30:02.000000Z",
        "k": 59 * 24 + 10,
        "rule": "default/rule",
    }


async def test_timer_that_ends_is_completed_and_one_that_is_changed_goes_on() -> None:
    clock = FakeClock(datetime(2026, 3, 1, tzinfo=UTC))
    async with SensorHarness(lambda context: TimerHandler(context, wall=clock), trigger_types=[TYPE]) as harness:
        anchored = {"anchor": "2026-03-01T00:00:10Z", "interval": 10}
        rule = harness.apply(TYPE, {**anchored, "end": "2026-03-01T00:00:15Z"})
        await harness.wait_for(rule, AckState.ACTIVE)
        clock.now += timedelta(seconds=11)
        assert (await harness.next_event()).payload["k"] == 0
        await harness.wait_for(rule, AckState.COMPLETED)
        rule = harness.apply(TYPE, anchored)
        await harness.wait_for(rule, AckState.ACTIVE)
        clock.now += timedelta(seconds=10)
        assert (await harness.next_event()).payload["k"] == 1
