"""What is fired of what was missed; the clock is a number (docs/timers.md, "Missed occurrences" and "The wall clock is set")."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rule_stream import rule_state

from attune_contract.calendar.cron import parse
from attune_contract.calendar.zones import zone
from attune_sensor import Rule
from attune_timer import instants
from attune_timer.cron import CronSchedule
from attune_timer.jitter import delay
from attune_timer.missed import LARGEST_MOST, Missed, MissedPolicy
from attune_timer.schedule import IntervalSchedule, OnceSchedule, Schedule
from attune_timer.timer_heap import GRACE, Timer, TimerHeap

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOON = instants.from_datetime(datetime(2026, 3, 28, 12, tzinfo=UTC))  # the night before clocks change in Europe


def timer(
    schedule: Schedule, missed: Missed = Missed.ALL, *, most: int = LARGEST_MOST, since: int = NOON, jitter: int = 0
) -> Timer:
    rule = Rule(state=rule_state(), since_us=since)
    return Timer(rule=rule, schedule=schedule, missed=MissedPolicy(missed=missed, most=most), jitter=jitter)


def every(interval: int, *, end: int | None = None) -> IntervalSchedule:
    return IntervalSchedule(anchor=NOON, interval=interval, end=end)


def fire(heap: TimerHeap, now: int) -> list[int]:
    """Everything that there is to fire now, as the clock thread takes it."""
    fired: list[int] = []
    while due := heap.pop_due(now=now, limit=100) or heap.pop_behind(now=now, limit=7):
        fired += [occurrence.at for _, occurrence in due]
    return fired


def minutes(fired: list[int]) -> list[float]:
    return [(at - NOON) / MINUTE for at in fired]


def restarted(missed: Missed, *, last: int | None, most: int = LARGEST_MOST, down: int = HOUR) -> list[float]:
    """Fires each minute; the sensor comes up after it was down."""
    heap = TimerHeap()
    heap.add(timer(every(MINUTE), missed, most=most), now=NOON + down + 50 * SECOND, last=last)
    return minutes(fire(heap, NOON + down + 50 * SECOND))


def test_skip_fires_nothing_old() -> None:
    assert restarted(Missed.SKIP, last=NOON) == []


def test_skip_still_fires_what_is_only_late() -> None:
    heap = TimerHeap()
    heap.add(timer(every(MINUTE), Missed.SKIP), now=NOON + HOUR + 20 * SECOND, last=NOON)
    assert minutes(fire(heap, NOON + HOUR + 20 * SECOND)) == [60]


def test_once_fires_the_latest() -> None:
    assert restarted(Missed.ONCE, last=NOON) == [60]
    assert restarted(Missed.ONCE, last=NOON + 60 * MINUTE) == [], "it is stored already"


def test_all_fires_each_after_the_last_stored() -> None:
    assert restarted(Missed.ALL, last=NOON + 50 * MINUTE) == list(range(51, 61))
    assert restarted(Missed.ALL, last=None) == list(range(1, 61)), "and none from before the rule was in force"


def test_all_is_bounded_to_the_latest() -> None:
    assert restarted(Missed.ALL, last=NOON, most=5) == [56, 57, 58, 59, 60]
    assert restarted(Missed.ALL, last=NOON + 58 * MINUTE, most=5) == [59, 60]


def test_what_fell_due_while_the_api_was_asked_does_not_count() -> None:
    for missed, expected in ((Missed.ONCE, range(60, 66)), (Missed.ALL, range(58, 66))):
        heap = TimerHeap()
        began, answered = NOON + HOUR + 5 * SECOND, NOON + HOUR + 5 * MINUTE + 5 * SECOND
        heap.add(timer(every(MINUTE), missed, most=3), now=answered, since=began, last=NOON)
        assert minutes(fire(heap, answered)) == list(expected)


def test_one_time_rule_that_fired_does_not_fire_again() -> None:
    for last, expected in ((None, [1]), (NOON + MINUTE, [])):
        heap = TimerHeap()
        once = timer(OnceSchedule(at=NOON + MINUTE), Missed.ONCE)
        heap.add(once, now=NOON + DAY, last=last)
        assert minutes(fire(heap, NOON + DAY)) == expected
        assert once.next is None


def test_missed_occurrences_do_not_hold_up_what_is_due_now() -> None:
    heap = TimerHeap()
    now = NOON + HOUR
    heap.add(timer(every(SECOND)), now=now, last=NOON)
    prompt = Timer(rule=Rule(state=rule_state(2), since_us=now), schedule=every(SECOND))
    heap.add(prompt, now=now)
    fired = heap.pop_due(now=now + SECOND, limit=10)
    assert {owner for owner, _ in fired} == {prompt}
    assert heap.behind


def test_timers_that_catch_up_take_turns_and_each_is_in_order() -> None:
    heap = TimerHeap()
    timers = [timer(every(SECOND)) for _ in range(3)]
    for each in timers:
        heap.add(each, now=NOON + 100 * SECOND, last=NOON)
    turns = []
    while due := heap.pop_behind(now=NOON + 100 * SECOND, limit=10):
        assert len({owner for owner, _ in due}) == 1
        turns.append((timers.index(due[0][0]), [occurrence.at for _, occurrence in due]))
    assert [owner for owner, _ in turns[:6]] == [0, 1, 2, 0, 1, 2]
    for number in range(3):
        fired = [at for owner, part in turns if owner == number for at in part]
        assert fired == [NOON + k * SECOND for k in range(1, 101)]


def test_timer_removed_while_it_catches_up_fires_no_more() -> None:
    heap = TimerHeap()
    gone = timer(every(SECOND))
    heap.add(gone, now=NOON + HOUR, last=NOON)
    assert len(heap.pop_behind(now=NOON + HOUR, limit=10)) == 10
    heap.remove(gone)
    assert fire(heap, NOON + HOUR) == []


@pytest.mark.parametrize(
    ("missed", "to", "fired", "following"),
    [  # the table "The wall clock is set", minutes after 12:00; the clock says 12:00:30
        (Missed.SKIP, -60, [], -59),
        (Missed.ALL, -60, [], -59),
        (Missed.SKIP, 60, [], 61),
        (Missed.SKIP, 60 - 1 / 6, [60], 61),
        (Missed.ONCE, 60, [60], 61),
        (Missed.ALL, 60, list(range(1, 61)), 61),
    ],
)
def test_wall_clock_is_set(missed: Missed, to: float, fired: list[int], following: int) -> None:
    heap = TimerHeap()
    # In force since the day before, so that what was fired before noon is stored.
    plan = IntervalSchedule(anchor=NOON - DAY, interval=MINUTE)
    heap.add(timer(plan, missed, since=NOON - DAY), now=NOON + 30 * SECOND, last=NOON)
    assert fire(heap, NOON + 30 * SECOND) == []
    now = NOON + 30 * SECOND + round(to * MINUTE) + 1
    assert minutes(fire(heap, now)) == fired
    assert heap.due_at() == NOON + following * MINUTE


def test_clock_set_back_and_forth_makes_no_new_event_and_misses_none() -> None:
    for missed in Missed:
        heap = TimerHeap()
        plan = IntervalSchedule(anchor=NOON - DAY, interval=MINUTE)
        heap.add(timer(plan, missed, since=NOON - DAY), now=NOON, last=NOON)
        fired: list[int] = []
        for begin in (NOON, NOON - HOUR, NOON + 5 * MINUTE):
            for now in range(begin, begin + 5 * MINUTE + 1, SECOND):
                fired += fire(heap, now)
        found = set(minutes(fired))
        assert found >= set(range(1, 11)), "none is missed"
        assert found <= {*range(1, 11), *range(-59, 6)}, "and what is fired again was fired before"


@pytest.mark.parametrize("missed", list(Missed))
def test_suspended_machine(missed: Missed) -> None:
    heap = TimerHeap()
    heap.add(timer(every(MINUTE), missed, most=3), now=NOON)
    assert minutes(fire(heap, NOON + MINUTE)) == [1]
    expected = {Missed.SKIP: [], Missed.ONCE: [90], Missed.ALL: [88, 89, 90]}[missed]
    assert minutes(fire(heap, NOON + 90 * MINUTE + 40 * SECOND)) == expected
    assert minutes(fire(heap, NOON + 91 * MINUTE)) == [91]


# -- the property


intervals = st.integers(100_000, 30 * MINUTE).map(every)
crons = st.builds(
    lambda text, name: CronSchedule(cron=parse(text), zone=zone(name)),
    st.sampled_from(["*/5 * * * *", "30 2 * * *", "0 * * * *", "15 1-4 * * *", "@daily", "0 0 29 3 *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
)
once = st.integers(NOON - DAY, NOON + 2 * DAY).map(lambda at: OnceSchedule(at=at))


def due(schedule: Schedule, until: int, *, most: int = 1_000_000) -> list[int]:
    found: list[int] = []
    after = NOON
    while (occurrence := schedule.next(after)) is not None and occurrence.at <= until and len(found) < most:
        found.append(occurrence.at)
        after = occurrence.at
    return found


@settings(deadline=None)  # on a busy machine, a while is a while
@given(
    schedule=st.one_of(intervals, crons, once),
    #: how long it is up, then down, then how long the API does not answer; in units that depend on the schedule
    lives=st.lists(st.tuples(*[st.floats(0, 1)] * 3), min_size=1, max_size=8),
    looks=st.integers(1, 5),
    jitter=st.sampled_from([0, 0, 100_000]),
)
def test_whenever_it_is_restarted_what_is_due_is_fired_once_in_order(
    schedule: Schedule, lives: list[tuple[float, float, float]], looks: int, jitter: int
) -> None:
    """Under ``missed: all``, the set of what is fired is the set of what is due."""
    span = 50 * schedule.interval if isinstance(schedule, IntervalSchedule) else DAY // 4
    now = NOON
    stored: list[int] = []
    for up, down, asking in lives:
        heap = TimerHeap()
        each = timer(schedule, since=NOON, jitter=jitter)
        began = now
        now += round(asking * span)
        heap.add(each, now=now, since=began, last=stored[-1] if stored else None)
        for _ in range(looks):
            now += round(up * span / looks)
            stored += fire(heap, now)
        now += round(down * span)
    heap = TimerHeap()
    heap.add(timer(schedule, since=NOON, jitter=jitter), now=now, last=stored[-1] if stored else None)
    now += jitter
    stored += fire(heap, now)
    assert stored == sorted(set(stored)), "each once, in order"
    assert [at for at in due(schedule, now - jitter) if at not in stored] == []
    assert set(stored) <= set(due(schedule, now))


@given(
    lives=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=6), seed=st.integers(0, 5)
)
def test_two_replicas_that_come_and_go_leave_no_gap_and_no_double(lives: list[tuple[int, int]], seed: int) -> None:
    """One of the two is always up; what each fires has the same ids, so the union is what is stored."""
    schedule = every(7 * SECOND)
    stored: set[int] = set()
    heaps: list[TimerHeap | None] = [None, None]
    now = NOON
    for number, (both, alone) in enumerate(lives):
        leaving = (number + seed) % 2
        for index in (0, 1):
            if heaps[index] is None:
                heaps[index] = fresh = TimerHeap()
                fresh.add(timer(schedule), now=now, last=max(stored, default=None))
        for step, present in ((both, (0, 1)), (alone, (1 - leaving,))):
            now += step * SECOND
            for index in present:
                heap = heaps[index]
                assert heap is not None
                stored.update(fire(heap, now))
            heaps[leaving] = None if present == (1 - leaving,) else heaps[leaving]
    assert sorted(stored) == due(schedule, now)


# -- jitter


def test_jitter_is_the_same_for_an_occurrence_and_spreads() -> None:
    delays = [delay(key=f"rule-{number}", at=NOON, most=30 * SECOND) for number in range(1000)]
    assert delays == [delay(key=f"rule-{number}", at=NOON, most=30 * SECOND) for number in range(1000)]
    assert 0 <= min(delays) < SECOND
    assert 29 * SECOND < max(delays) <= 30 * SECOND
    assert len(set(delays)) > 990
    assert delay(key="rule", at=NOON, most=0) == 0
    assert delay(key="rule", at=NOON, most=30 * SECOND) != delay(key="rule", at=NOON + 1, most=30 * SECOND)


def test_jitter_moves_the_firing_and_not_the_occurrence() -> None:
    heap = TimerHeap()
    each = timer(every(MINUTE), Missed.SKIP, jitter=MINUTE)
    heap.add(each, now=NOON)
    for k in range(1, 6):
        at = NOON + k * MINUTE
        expected = at + delay(key=each.rule.uid, at=at, most=MINUTE)
        assert heap.due_at() == expected
        assert fire(heap, expected - 1) == []
        assert fire(heap, expected) == [at]


def test_restart_during_the_delay_fires_at_the_delayed_time() -> None:
    for missed in Missed:
        first = timer(every(HOUR), missed, jitter=HOUR)
        heap = TimerHeap()
        heap.add(first, now=NOON)
        due_at = heap.due_at()
        assert due_at is not None
        again = TimerHeap()
        between = (NOON + HOUR + due_at) // 2
        again.add(timer(every(HOUR), missed, jitter=HOUR), now=between, last=NOON)
        assert again.due_at() == due_at
        assert fire(again, due_at) == [NOON + HOUR]


def test_grace_is_thirty_seconds_as_the_document_says() -> None:
    assert GRACE == 30 * SECOND
