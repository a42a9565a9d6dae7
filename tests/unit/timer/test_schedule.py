"""When an interval timer fires."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.rule_stream import rule_state

from attune_contract.events import EVENT_NAMESPACE
from attune_sensor import InvalidRuleError, Rule, event_id, scheduled
from attune_timer import instants
from attune_timer.parameters import MAX_INTERVAL, MIN_INTERVAL, schedule_of
from attune_timer.schedule import IntervalSchedule, Occurrence

SECOND = 1_000_000
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
CREATED_US = instants.from_datetime(CREATED)


def schedule(**parameters: Any) -> IntervalSchedule:
    made = schedule_of(Rule(state=rule_state(parameters=parameters), since_us=0))
    assert isinstance(made, IntervalSchedule)
    return made


# Microseconds of the years 1970 to 2200.
INSTANTS = st.integers(0, instants.from_datetime(datetime(2200, 1, 1, tzinfo=UTC)))
SCHEDULES = st.builds(
    IntervalSchedule,
    anchor=INSTANTS,
    interval=st.integers(MIN_INTERVAL, MAX_INTERVAL),
    first_k=st.integers(0, 1),
    start=st.none() | INSTANTS,
    end=st.none() | INSTANTS,
)


@given(SCHEDULES, INSTANTS)
def test_next_is_later_in_phase_and_within_the_bounds(plan: IntervalSchedule, after: int) -> None:
    found = plan.next(after)
    if found is None:
        assert plan.end is not None
        return
    assert found.k is not None
    assert found.at > after
    assert found.at == plan.anchor + found.k * plan.interval
    assert found.k >= plan.first_k
    assert plan.start is None or found.at >= plan.start
    assert plan.end is None or found.at <= plan.end


@given(SCHEDULES, INSTANTS)
def test_nothing_is_left_out_between_one_and_the_next(plan: IntervalSchedule, after: int) -> None:
    first = plan.next(after)
    assume(first is not None)
    assert first is not None
    before = first.at - plan.interval
    assert before <= after or before < plan.anchor + plan.first_k * plan.interval or before < (plan.start or 0)
    assert plan.next(first.at - 1) == first
    second = plan.next(first.at)
    assert second is None or second.at == first.at + plan.interval


@given(SCHEDULES, INSTANTS, INSTANTS)
def test_latest_agrees_with_next(plan: IntervalSchedule, one: int, other: int) -> None:
    after, until = sorted((one, other))
    found = plan.latest(after=after, until=until)
    following = plan.next(after)
    if found is None:
        assert following is None or following.at > until
        return
    assert after < found.at <= until
    assert following is not None
    assert following.at <= found.at
    later = plan.next(found.at)
    assert later is None or later.at > until


@given(SCHEDULES, st.lists(INSTANTS, min_size=1, max_size=5))
def test_phase_does_not_depend_on_when_it_was_started(plan: IntervalSchedule, starts: list[int]) -> None:
    for start in starts:
        found = plan.next(start)
        if found is not None:
            assert (found.at - plan.anchor) % plan.interval == 0


def test_new_timer_fires_when_its_first_interval_is_over() -> None:
    assert schedule(interval=5).next(CREATED_US - 1) == Occurrence(CREATED_US + 5 * SECOND, 1)


def test_timer_that_names_its_anchor_fires_there_first() -> None:
    plan = schedule(interval=1, unit="hours", anchor="2026-03-01T10:00:00+02:00")
    assert plan.next(CREATED_US) == Occurrence(instants.parse("2026-03-01T08:00:00Z"), 0)


def test_start_and_end_bound_it_and_do_not_move_its_phase() -> None:
    plan = schedule(interval=10, start="2026-01-01T00:01:05Z", end="2026-01-01T00:01:20Z")
    assert plan.next(0) == Occurrence(CREATED_US + 70 * SECOND, 7)
    assert plan.next(CREATED_US + 70 * SECOND) == Occurrence(CREATED_US + 80 * SECOND, 8)
    assert plan.next(CREATED_US + 80 * SECOND) is None


def test_end_of_time_ends_it() -> None:
    plan = schedule(interval=520, unit="weeks", anchor="9995-01-01T00:00:00Z")
    first = plan.next(0)
    assert first is not None
    assert plan.next(first.at) is None


@pytest.mark.parametrize(
    ("parameters", "microseconds"),
    [
        ({"interval": 1}, SECOND),
        ({"interval": 0.1}, 100_000),
        ({"interval": 0.3}, 300_000),
        ({"interval": 1.1, "unit": "minutes"}, 66 * SECOND),
        ({"interval": 250, "unit": "milliseconds"}, 250_000),
        ({"interval": 2, "unit": "hours"}, 7200 * SECOND),
        ({"interval": 1, "unit": "days"}, 86_400 * SECOND),
        ({"interval": 2, "unit": "weeks"}, 1_209_600 * SECOND),
        ({"interval": 1 / 3}, 333_333),
        ({"interval": 1e2}, 100 * SECOND),
    ],
)
def test_interval_in_each_unit_is_exact(parameters: dict[str, Any], microseconds: int) -> None:
    assert schedule(**parameters).interval == microseconds


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "parameters.interval is None; expected a positive number"),
        ({"interval": 0}, "shorter than 0.1 seconds"),
        ({"interval": -1}, "shorter than 0.1 seconds"),
        ({"interval": 0.05}, "shorter than 0.1 seconds"),
        ({"interval": True}, "parameters.interval is True"),
        ({"interval": "5"}, "parameters.interval is '5'"),
        ({"interval": 1e300}, "longer than ten years"),
        ({"interval": float("inf")}, "longer than ten years"),
        ({"interval": float("nan")}, "longer than ten years"),
        ({"interval": 10**400}, "longer than ten years"),
        ({"interval": 1, "unit": "fortnights"}, "expected one of: milliseconds, seconds"),
        ({"interval": 1, "unit": None}, "parameters.unit is None"),
        ({"interval": 1, "unit": []}, "parameters.unit is"),
        ({"interval": 1, "every": 2}, "unknown parameter every; expected one of: anchor, data"),
        ({"interval": 1, "anchor": "2026-01-01 00:00:00Z"}, "parameters.anchor: .* not a time with a zone"),
        ({"interval": 1, "anchor": "2026-01-01T00:00:00"}, "not a time with a zone"),
        ({"interval": 1, "anchor": "2026-02-30T00:00:00Z"}, "parameters.anchor: .* is not a time: day"),
        ({"interval": 1, "anchor": "10000-01-01T00:00:00Z"}, "not a time with a zone"),
        ({"interval": 1, "start": 5}, "parameters.start is 5"),
        (
            {"interval": 1, "start": "2026-02-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"},
            "parameters.end is before parameters.start",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_parameters_that_cannot_be_used_are_told_in_a_sentence(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRuleError, match=words):
        schedule(**parameters)


def test_trigger_type_of_another_sensor_is_refused() -> None:
    with pytest.raises(InvalidRuleError, match=r"does not provide the trigger type acme\.queue"):
        schedule_of(Rule(state=rule_state(trigger_type="acme.queue"), since_us=0))


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_instants_are_exact(moment: datetime) -> None:
    instant = instants.from_datetime(moment)
    assert instants.to_datetime(instant) == moment
    assert instants.to_datetime(instant + 1) - moment == timedelta(microseconds=1)
    assert instants.parse(moment.isoformat().replace("+00:00", "Z")) == instant


@given(st.integers(0, instants.LAST))
def test_an_instant_is_written_as_the_contract_has_it(instant: int) -> None:
    assert instants.text(instant) == scheduled(instants.to_datetime(instant))
    assert instants.parse(instants.text(instant)) == instant


@given(st.text(max_size=40), st.text(max_size=40))
def test_event_ids_are_version_5_uuids_of_rule_and_occurrence(rule_uid: str, occurrence: str) -> None:
    assert event_id(rule_uid, occurrence) == uuid.uuid5(EVENT_NAMESPACE, f"{rule_uid}/{occurrence}")
