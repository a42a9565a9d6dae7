"""All timers by when they are due; the clock is a number."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rule_stream import rule_state

from attune_sensor import Rule
from attune_timer.schedule import IntervalSchedule, Occurrence
from attune_timer.timer_heap import GRACE_AT_START, Timer, TimerHeap

SECOND = 1_000_000
NOON = 1_000_000 * SECOND


def timer(
    interval: int = SECOND, *, number: int = 1, since: int = NOON, anchor: int = 0, end: int | None = None
) -> Timer:
    plan = IntervalSchedule(anchor=anchor, interval=interval, end=end)
    return Timer(rule=Rule(state=rule_state(number), since_us=since), schedule=plan)


def run(heap: TimerHeap, *, begin: int, end: int, step: int) -> list[tuple[int, Timer, Occurrence]]:
    """Let the clock go; returns what fired, and when."""
    fired = []
    for now in range(begin, end + 1, step):
        fired += [(now, owner, occurrence) for owner, occurrence in heap.pop_due(now=now, limit=1000)]
    return fired


def test_fires_exactly_what_is_due() -> None:
    heap = TimerHeap()
    heap.add(timer(), now=NOON)
    fired = run(heap, begin=NOON, end=NOON + 10 * SECOND, step=1000)
    assert [occurrence.at for _, _, occurrence in fired] == [NOON + n * SECOND for n in range(1, 11)]
    assert all(now == occurrence.at for now, _, occurrence in fired)


def test_ten_thousand_timers_fire_in_order_and_none_twice() -> None:
    chance = random.Random(7)
    heap = TimerHeap()
    for number in range(10_000):
        heap.add(timer(5 * SECOND, number=number, anchor=chance.randrange(5 * SECOND)), now=NOON)
    fired = run(heap, begin=NOON, end=NOON + 10 * SECOND, step=1000)
    assert len(fired) == 20_000
    assert len({(owner.rule.uid, occurrence.at) for _, owner, occurrence in fired}) == 20_000
    assert all(0 <= now - occurrence.at < 1000 for now, _, occurrence in fired)
    moments = [occurrence.at for _, _, occurrence in fired]
    assert moments == sorted(moments)


def test_limit_leaves_the_rest_for_the_next_call() -> None:
    heap = TimerHeap()
    for number in range(25):
        heap.add(timer(number=number), now=NOON)
    sizes = [len(heap.pop_due(now=NOON + SECOND, limit=10)) for _ in range(4)]
    assert sizes == [10, 10, 5, 0]


def test_removed_timer_does_not_fire() -> None:
    heap = TimerHeap()
    gone, stays = timer(number=1), timer(number=2)
    heap.add(gone, now=NOON)
    heap.add(stays, now=NOON)
    heap.remove(gone)
    heap.remove(gone)
    assert [owner for owner, _ in heap.pop_due(now=NOON + SECOND, limit=10)] == [stays]
    assert len(heap) == 1


def test_removed_timers_do_not_pile_up() -> None:
    heap = TimerHeap()
    for number in range(20_000):
        short_lived = timer(number=number)
        heap.add(short_lived, now=NOON)
        heap.remove(short_lived)
    assert len(heap._heap) < 3000


def test_stall_within_the_grace_fires_each_occurrence_late() -> None:
    heap = TimerHeap()
    heap.add(timer(), now=NOON)
    due = heap.pop_due(now=NOON + 20 * SECOND, limit=100)
    assert [occurrence.at for _, occurrence in due] == [NOON + n * SECOND for n in range(1, 21)]


def test_clock_set_forward_makes_no_storm() -> None:
    heap = TimerHeap()
    heap.add(timer(), now=NOON)
    hour = NOON + 3600 * SECOND
    due = heap.pop_due(now=hour + 1, limit=10_000)
    assert [occurrence.at for _, occurrence in due] == [hour]
    assert heap.due_at() == hour + SECOND


def test_clock_set_forward_fires_nothing_old_of_a_slow_timer() -> None:
    heap = TimerHeap()
    heap.add(timer(600 * SECOND, anchor=NOON), now=NOON)
    assert heap.pop_due(now=NOON + 700 * SECOND, limit=10) == []
    assert heap.due_at() == NOON + 1200 * SECOND


def test_clock_set_back_does_not_stall() -> None:
    heap = TimerHeap()
    heap.add(timer(), now=NOON)
    assert len(heap.pop_due(now=NOON + SECOND, limit=10)) == 1
    back = NOON - 3600 * SECOND
    assert heap.pop_due(now=back, limit=10) == []
    assert heap.due_at() == back + SECOND


def test_small_adjustment_of_the_clock_fires_nothing_twice() -> None:
    heap = TimerHeap()
    heap.add(timer(), now=NOON)
    fired = [
        len(heap.pop_due(now=NOON + offset, limit=10)) for offset in (SECOND, SECOND - 400_000, SECOND, SECOND + 1)
    ]
    assert fired == [1, 0, 0, 0]


def test_what_fell_due_on_the_way_is_fired_at_once() -> None:
    heap = TimerHeap()
    heap.add(timer(10 * SECOND, since=NOON - 5 * SECOND, anchor=NOON - SECOND), now=NOON)
    assert [occurrence for _, occurrence in heap.pop_due(now=NOON, limit=10)] == [Occurrence(NOON - SECOND, 0)]


def test_what_was_due_before_the_rule_was_in_force_is_not_fired() -> None:
    heap = TimerHeap()
    heap.add(timer(10 * SECOND, since=NOON, anchor=NOON - SECOND), now=NOON)
    assert heap.pop_due(now=NOON, limit=10) == []


def test_what_is_older_than_the_grace_is_not_fired() -> None:
    heap = TimerHeap()
    missed = timer(3600 * SECOND, since=0, anchor=NOON - GRACE_AT_START)
    late = timer(3600 * SECOND, since=0, anchor=NOON - GRACE_AT_START + 1)
    heap.add(missed, now=NOON)
    heap.add(late, now=NOON)
    assert heap.pop_due(now=NOON, limit=10) == []
    assert [owner for owner, _ in heap.pop_behind(now=NOON, limit=10)] == [late]


def test_a_sensor_that_was_away_for_a_moment_fires_all_that_it_missed() -> None:
    heap = TimerHeap()
    heap.add(timer(since=0), now=NOON, last=NOON - 40 * SECOND)
    fired: list[int] = []
    while due := heap.pop_due(now=NOON, limit=100) or heap.pop_behind(now=NOON, limit=7):
        fired += [occurrence.at for _, occurrence in due]
    assert fired == [NOON - 40 * SECOND + number * SECOND for number in range(1, 41)]


def test_schedule_that_ends_leaves_the_heap() -> None:
    heap = TimerHeap()
    ending = timer(end=NOON + 2 * SECOND)
    heap.add(ending, now=NOON)
    assert len(heap.pop_due(now=NOON + 5 * SECOND, limit=10)) == 2
    assert ending.next is None
    assert heap.due_at() is None


@given(
    intervals=st.lists(st.integers(100_000, 5 * SECOND), min_size=1, max_size=5),
    looks=st.lists(st.integers(1, 2 * SECOND), min_size=1, max_size=40),
)
def test_whenever_it_looks_each_occurrence_fires_once(intervals: list[int], looks: list[int]) -> None:
    heap = TimerHeap()
    timers = [timer(interval, number=number) for number, interval in enumerate(intervals)]
    for each in timers:
        heap.add(each, now=NOON)
    now, fired = NOON, []
    for look in looks:
        now += look
        fired += [(owner.rule.uid, occurrence.at) for owner, occurrence in heap.pop_due(now=now, limit=10_000)]
    expected = [
        (each.rule.uid, at)
        for each, interval in zip(timers, intervals, strict=True)
        for at in range((NOON // interval + 1) * interval, now + 1, interval)
    ]
    assert sorted(fired) == sorted(expected)


@given(
    gaps=st.lists(st.tuples(st.integers(1, 100 * SECOND), st.integers(1, 100 * SECOND)), min_size=1, max_size=8),
    interval=st.integers(100_000, 60 * SECOND),
)
def test_restarts_fire_nothing_that_is_not_due(gaps: list[tuple[int, int]], interval: int) -> None:
    """Whenever the sensor is restarted, what fires is in phase, and nothing from before the rule."""
    now, fired = NOON, []
    for up, down in gaps:
        heap = TimerHeap()
        each = timer(interval, since=NOON)
        heap.add(each, now=now)
        now += up
        fired += [occurrence for _, occurrence in heap.pop_due(now=now, limit=100_000)]
        now += down
    assert all(occurrence.at % interval == 0 and occurrence.at > NOON for occurrence in fired)


@pytest.mark.parametrize("limit", [1, 7])
def test_catching_up_continues_over_several_calls(limit: int) -> None:
    heap = TimerHeap()
    heap.add(timer(), now=NOON)
    late = NOON + 10 * SECOND
    moments: list[int] = []
    while due := heap.pop_due(now=late, limit=limit):
        moments += [occurrence.at for _, occurrence in due]
    assert moments == [NOON + n * SECOND for n in range(1, 11)]
