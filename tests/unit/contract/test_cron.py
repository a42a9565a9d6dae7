"""What cron expressions mean, without any zone (docs/timers.md, "Cron timers" and "Coming from elsewhere")."""

from datetime import datetime
from itertools import islice

import cronsim
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune_contract.calendar.cron import CronError, DayMatch, parse, parse_every, problem, warnings

BEGIN = datetime(2026, 12, 31, 23, 59, 59)  # noqa: DTZ001 - a calendar without zones


def first(expression: str, number: int, *, match: DayMatch = DayMatch.CRON) -> list[datetime]:
    cron, at = parse(expression, day_match=match), BEGIN
    found: list[datetime] = []
    while len(found) < number and (following := cron.after(at)) is not None:
        at = following
        found.append(at)
    return found


def days(expression: str, number: int, *, match: DayMatch = DayMatch.CRON) -> list[str]:
    return [f"{at:%m-%d %a}" for at in first(expression, number, match=match)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 9 * * MON/2", ["01-01 Fri", "01-04 Mon", "01-06 Wed", "01-08 Fri", "01-11 Mon"]),
        ("0 9 * * 5/2", ["01-01 Fri", "01-08 Fri"]),
        ("0 0 * * 3-3/2", ["01-06 Wed", "01-13 Wed"]),
        ("0 0 1 1-1/3 *", ["01-01 Fri", "01-01 Sat"]),
        ("0 0 * * FRI-MON", ["01-01 Fri", "01-02 Sat", "01-03 Sun", "01-04 Mon", "01-08 Fri"]),
        ("0 0 * * SAT-SUN", ["01-02 Sat", "01-03 Sun", "01-09 Sat"]),
        ("0 0 * * 5-7", ["01-01 Fri", "01-02 Sat", "01-03 Sun", "01-08 Fri"]),
        ("0 0 * * 6-0", ["01-02 Sat", "01-03 Sun", "01-09 Sat"]),
        ("0 0 * * 7", ["01-03 Sun", "01-10 Sun"]),
        ("0 0 * * MON-SUN", ["01-01 Fri", "01-02 Sat", "01-03 Sun", "01-04 Mon"]),
        ("0 0 30-2 * *", ["01-01 Fri", "01-02 Sat", "01-30 Sat", "01-31 Sun", "02-01 Mon"]),
        ("0 0 1 NOV-FEB *", ["01-01 Fri", "02-01 Mon", "11-01 Mon", "12-01 Wed"]),
        ("0 0 ? * MON", ["01-04 Mon", "01-11 Mon"]),
        ("0 0 1 * ?", ["01-01 Fri", "02-01 Mon"]),
        ("0 0 * * FRIL", ["01-29 Fri", "02-26 Fri"]),
        ("0 0 * * 7#1", ["01-03 Sun", "02-07 Sun"]),
    ],
)
def test_days(expression: str, expected: list[str]) -> None:
    assert days(expression, len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("5-5/15 * * * *", ["00:05", "01:05", "02:05"]),
        ("5/15 * * * *", ["00:05", "00:20", "00:35", "00:50", "01:05"]),
        ("0 22-5 * * *", ["00:00", "01:00", "02:00", "03:00", "04:00", "05:00", "22:00"]),
        ("0 22-5/2 * * *", ["00:00", "02:00", "04:00", "22:00"]),
        ("50-10/10 3 * * *", ["03:00", "03:10", "03:50"]),
    ],
)
def test_times(expression: str, expected: list[str]) -> None:
    assert [f"{at:%H:%M}" for at in first(expression, len(expected))] == expected


def test_day_of_month_and_weekday_on_request() -> None:
    assert days("0 0 13 * FRI", 3) == ["01-01 Fri", "01-08 Fri", "01-13 Wed"], "either, as in crontab(5)"
    assert days("0 0 13 * FRI", 2, match=DayMatch.ALL) == ["08-13 Fri", "10-13 Fri"]
    assert [at.year for at in first("0 0 29 2 MON#5", 2, match=DayMatch.ALL)] == [2044, 2072]


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("61 * * * *", "the minute '61' is wrong; expected 0-59"),
        ("* 24 * * *", "the hour '24' is wrong; expected 0-23"),
        ("* * 0 * *", "the day-of-month '0' is wrong; expected 1-31"),
        ("* * * 13 *", "the month '13' is wrong; expected 1-12 or JAN-DEC"),
        ("* * * * FUN", "the day-of-week 'FUN' is wrong; expected 0-7 or SUN-SAT"),
        ("60 * * * * *", "the second '60' is wrong; expected 0-59"),
        ("* * * *", "it has 4 fields; expected five (minute hour day-of-month month day-of-week), or six"),
        ("0 0 12 * * ? 2027", "A year, as in Quartz, is not supported"),
        ("", "it has 0 fields"),
        ("@reboot", "unknown nickname '@reboot'; expected one of @yearly"),
        ("0 0 30 2 *", "it is never due: no month that it names has such a day"),
        ("0 0 31 2,4 *", "it is never due"),
        ("*/0 * * * *", "the minute '*/0' is wrong; after / expected a number above 0"),
        ("1," * 200 + "1 * * * *", "it has 409 characters; at most 200 are allowed"),
        ("0 0 ٣ * *", "the day-of-month '٣' is wrong"),
        ("CRON_TZ=Europe/Berlin 0 6 * * *", "put the time zone into the parameter timezone"),
        ("TZ=Europe/Berlin 0 6 * * *", "put the time zone into the parameter timezone"),
        ("0 9 15W * *", "the nearest weekday (W) is not supported; LW"),
        ("0 9 L-3 * *", "days before the last one (L-3) are not supported"),
        ("H/15 * * * *", "H, as in Jenkins, is not supported"),
        ("? * * * *", "? may stand for a day-of-month or a day-of-week only"),
        ("0 0 * * MON#6", "after # expected a number from 1 to 5"),
        ("@every", "@every needs an interval like 90s, 5m or 1h30m"),
        ("@every 5", "@every needs an interval like"),
        ("@every 0s", "is not from 0.1 seconds to ten years"),
        ("@every -5m", "@every needs an interval like"),
    ],
)
def test_what_is_wrong_is_said(expression: str, complaint: str) -> None:
    assert complaint in (problem(expression) or "nothing")


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [("@every 90m", 5400), ("@every 1h30m", 5400), ("@Every 0.5s", 0.5), ("@every 500ms", 0.5)],
)
def test_every(expression: str, seconds: float) -> None:
    assert parse_every(expression) == seconds * 1_000_000
    assert problem(expression) is None


def test_steps_that_are_larger_than_the_field_are_remarked() -> None:
    assert warnings("*/70 * * * *") == ["the step /70 is not smaller than the minute field, so it has one value"]
    assert warnings("*/30 */24 * * *") == ["the step /24 is not smaller than the hour field, so it has one value"]
    assert warnings("*/15 0 */2 * MON/3") == warnings("@daily") == warnings("@every 5m") == []


def test_equal_expressions_are_equal() -> None:
    assert parse(" 0 9 * *   mon-fri\n") == parse("0 9 * * MON-FRI")
    assert parse("0 9 1 * MON") != parse("0 9 1 * MON", day_match=DayMatch.ALL)
    with pytest.raises(CronError):
        parse("@every 5m")


# -- against cronsim, in what both read alike ----------------------------------------------------------------------------


def _values(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(
        lambda pair: f"{min(pair)}-{max(pair)}" if pair[0] != pair[1] else f"{pair[0]}"
    )
    stepped = st.tuples(st.sampled_from(["*"]), st.integers(1, high)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    return st.one_of(
        st.just("*"), st.lists(st.one_of(number.map(str), span), min_size=1, max_size=3).map(",".join), stepped
    )


FIELDS = st.tuples(
    _values(0, 59),
    _values(0, 23),
    st.one_of(_values(1, 31), st.sampled_from(["L", "LW"])),
    _values(1, 12),
    st.one_of(_values(0, 6), st.sampled_from(["5L", "1#2", "7#1", "0L"])),
).map(" ".join)


@settings(deadline=None, max_examples=300)
@given(FIELDS)
def test_the_calendar_is_cronsims(expression: str) -> None:
    try:
        reference = cronsim.CronSim(expression, BEGIN)
        expected = list(islice(reference, 20))
    except cronsim.CronSimError:
        expected = []  # it counts what is never due among what is wrong
    if not expected:
        assert problem(expression) is not None or first(expression, 1)[0].year > 2026 + 50
        return
    assert first(expression, len(expected)) == expected
    back = list(islice(parse(expression).until(expected[-1]), len(expected)))
    assert back[::-1] == expected
    assert all(parse(expression).matches(at) for at in expected)
