"""When a cron timer does not fire (docs/timers.md, "Leaving out days and hours")."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rule_stream import rule_state

from attune_sensor import InvalidRuleError, Rule
from attune_timer import instants
from attune_timer.handler import event_of
from attune_timer.parameters import CRON_TIMER, INTERVAL_TIMER, timer_of
from attune_timer.schedule import Occurrence, Schedule

HOUR = 3_600_000_000


def schedule(cron: str, *, timezone: str = "UTC", **parameters: Any) -> Schedule:
    state = rule_state(parameters={"cron": cron, "timezone": timezone, **parameters}, trigger_type=CRON_TIMER)
    return timer_of(Rule(state=state, since_us=0)).schedule


def fired(plan: Schedule, begin: str, number: int) -> list[str]:
    at = instants.parse(begin) - 1
    found: list[str] = []
    while len(found) < number and (following := plan.next(at)) is not None:
        at = following.at
        found.append(instants.text(at)[:16])
    return found


def test_days() -> None:
    plan = schedule("0 6 * * *", exclude={"dates": ["2026-12-24", "2026-12-26"]})
    assert fired(plan, "2026-12-23T00:00:00Z", 3) == ["2026-12-23T06:00", "2026-12-25T06:00", "2026-12-27T06:00"]


def test_periods_include_their_last_day() -> None:
    plan = schedule("0 6 * * *", exclude={"periods": [{"from": "2026-12-24", "until": "2027-01-01"}]})
    assert fired(plan, "2026-12-23T00:00:00Z", 2) == ["2026-12-23T06:00", "2027-01-02T06:00"]


def test_hours_may_run_over_midnight_and_end_before_their_until() -> None:
    plan = schedule("0 * * * *", exclude={"hours": [{"from": "08:00", "until": "05:00"}]})
    assert fired(plan, "2026-12-23T00:00:00Z", 4) == [
        "2026-12-23T05:00", "2026-12-23T06:00", "2026-12-23T07:00", "2026-12-24T05:00"
    ]  # fmt: skip


def test_the_same_time_twice_is_the_whole_day() -> None:
    assert (
        fired(
            schedule("0 * * * *", exclude={"hours": [{"from": "06:00", "until": "06:00"}]}), "2026-12-23T00:00:00Z", 1
        )
        == []
    )


def test_a_second_cron_expression() -> None:
    plan = schedule("*/30 * * * *", exclude={"cron": ["* * * * SAT,SUN", "0 * * * *"]})
    assert fired(plan, "2026-12-25T23:00:00Z", 2) == ["2026-12-25T23:30", "2026-12-28T00:30"]


def test_days_and_hours_are_those_of_the_zone() -> None:
    plan = schedule("0 22 * * *", timezone="America/New_York", exclude={"dates": ["2026-12-24"]})
    assert fired(plan, "2026-12-24T00:00:00Z", 2) == ["2026-12-24T03:00", "2026-12-26T03:00"], "22:00 there is 03:00Z"


def test_when_all_is_left_out_nothing_fires_and_it_takes_no_time() -> None:
    plan = schedule("* * * * * *", exclude={"hours": [{"from": "00:00", "until": "24:00"}]})
    assert plan.next(0) is None
    assert plan.latest(after=0, until=instants.parse("2026-12-24T00:00:00Z")) is None


def test_a_schedule_of_every_second_jumps_over_what_is_left_out() -> None:
    plan = schedule("* * * * * *", exclude={"periods": [{"from": "2026-01-01", "until": "2026-12-31"}]})
    assert fired(plan, "2026-01-01T00:00:00Z", 1) == ["2027-01-01T00:00"]
    latest = plan.latest(after=0, until=instants.parse("2026-12-31T23:59:59Z"))
    assert latest is not None
    assert instants.text(latest.at) == "2025-12-31T23:59:59.000000Z"


@settings(deadline=None, max_examples=60)
@given(
    cron=st.sampled_from(["*/20 * * * *", "30 2 * * *", "0 1,2,3 * * *"]),
    zone=st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe"]),
    begin=st.integers(instants.parse("2026-03-20T00:00:00Z") // HOUR, instants.parse("2026-11-05T00:00:00Z") // HOUR),
    exclude=st.sampled_from([{"hours": [{"from": "02:10", "until": "02:50"}]}, {"cron": ["*/40 * * * *"]},
                             {"hours": [{"from": "23:00", "until": "01:30"}], "dates": ["2026-10-25"]}]),
)  # fmt: skip
def test_it_is_the_schedule_without_what_is_left_out(cron: str, zone: str, begin: int, exclude: dict[str, Any]) -> None:
    plan, whole = schedule(cron, timezone=zone, exclude=exclude), schedule(cron, timezone=zone)
    until = begin * HOUR + 48 * HOUR
    expected, at = [], begin * HOUR
    while (following := whole.next(at)) is not None and following.at <= until:
        at = following.at
        if plan.next(at - 1) == following:
            expected.append(at)
    back, last = [], until
    while (before := plan.latest(after=begin * HOUR, until=last)) is not None:
        back.append(before.at)
        last = before.at - 1
    assert back[::-1] == expected
    if expected:
        assert plan.first_of_latest(len(expected), after=begin * HOUR, until=until) == Occurrence(expected[0])


@pytest.mark.parametrize(
    ("exclude", "complaint"),
    [
        ([], "parameters.exclude: expected an object with dates, periods, hours, cron"),
        ({"days": []}, "parameters.exclude: unknown field days; expected one of: dates, periods, hours, cron"),
        ({"dates": "2026-12-24"}, "parameters.exclude.dates: expected a list of at most 64 entries"),
        ({"dates": ["2026-02-30"]}, "parameters.exclude.dates[0]: '2026-02-30' is not a day; expected one that exists"),
        ({"periods": [{"from": "2026-12-24"}]}, "parameters.exclude.periods[0]: expected from and until"),
        (
            {"periods": [{"from": "2027-01-01", "until": "2026-12-24"}]},
            "until (2026-12-24) is before from (2027-01-01)",
        ),
        ({"hours": [{"from": "25:00", "until": "06:00"}]}, "'25:00' is not a time of day; expected 00:00 to 24:00"),
        (
            {"cron": ["61 * * * *"]},
            "parameters.exclude.cron[0]: '61 * * * *' is not a cron expression: the minute '61'",
        ),
        ({"cron": [5]}, "parameters.exclude.cron[0]: 5 is not a cron expression; expected a text"),
    ],
)
def test_what_is_wrong_is_said(exclude: Any, complaint: str) -> None:
    with pytest.raises(InvalidRuleError) as error:
        schedule("@daily", exclude=exclude)
    assert complaint in str(error.value)


def test_every_is_an_interval_from_the_rules_creation() -> None:
    state = rule_state(parameters={"cron": "@every 90m"}, trigger_type=CRON_TIMER)
    rule = Rule(state=state, since_us=0)
    plan = timer_of(rule).schedule
    created = instants.from_datetime(rule.created_at)
    assert plan.next(created) == Occurrence(created + 5_400_000_000, 1)
    with pytest.raises(InvalidRuleError, match="@every does not go with exclude"):
        schedule("@every 90m", exclude={"dates": ["2026-12-24"]})


def test_data_of_ones_own_is_in_the_event() -> None:
    state = rule_state(parameters={"interval": 5, "data": {"team": "ops", "n": [1]}}, trigger_type=INTERVAL_TIMER)
    timer = timer_of(Rule(state=state, since_us=0))
    event = event_of(timer.rule, Occurrence(0, 1), fired_at=5, data=timer.data)
    assert event.payload["data"] == {"team": "ops", "n": [1]}
    for bad, complaint in ((5, "expected an object"), ({"a": "x" * 20_000}, "at most 16384 are allowed")):
        with pytest.raises(InvalidRuleError, match=complaint):
            timer_of(Rule(state=rule_state(parameters={"interval": 5, "data": bad}), since_us=0))
