"""Cron schedules in time zones. The tables are those of docs/timers.md: each row is a test."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune_contract.calendar.cron import NICKNAMES, parse
from attune_contract.calendar.zones import zone
from attune_timer import instants
from attune_timer.cron import CronSchedule

DOCUMENT = Path(__file__).parents[3] / "docs" / "timers.md"
SECOND = 1_000_000


def schedule(expression: str, name: str = "UTC", *, start: int | None = None, end: int | None = None) -> CronSchedule:
    return CronSchedule(cron=parse(expression), zone=zone(name), start=start, end=end)


def instant(text: str) -> int:
    return instants.parse(text)


def fired(plan: CronSchedule, after: int, until: int) -> list[int]:
    found = []
    while (occurrence := plan.next(after)) is not None and occurrence.at <= until:
        found.append(occurrence.at)
        after = occurrence.at
    return found


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of the document, without backticks."""
    section = DOCUMENT.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_document_has_the_tables() -> None:
    assert len(rows("Daylight saving")) >= 12
    assert len(rows("Calendar")) >= 6
    assert len({row[0] for row in rows("Daylight saving")}) >= 3, "three zones"


@pytest.mark.parametrize("row", rows("Daylight saving"), ids=lambda row: f"{row[0]} {row[1]} {row[2]}")
def test_daylight_saving(row: list[str]) -> None:
    name, expression, day, _change, local, in_utc = row
    begin = instants.from_datetime(datetime.fromisoformat(day).replace(tzinfo=zone(name)))
    end = instants.from_datetime((datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=zone(name)))
    found = fired(schedule(expression, name), begin - 1, end - 1)
    moments = [instants.to_datetime(at) for at in found]
    assert [moment.strftime("%H:%M") for moment in moments] == in_utc.split()
    assert [moment.astimezone(zone(name)).strftime("%H:%M") for moment in moments] == local.split()


@pytest.mark.parametrize("row", rows("Calendar"), ids=lambda row: f"{row[0]} after {row[1]}")
def test_calendar(row: list[str]) -> None:
    expression, after, following = row
    begin = instant(f"{after}T00:00:00Z")
    plan = schedule(expression)
    found = []
    for _ in following.split(","):
        occurrence = plan.next(begin)
        assert occurrence is not None
        begin = occurrence.at
        found.append(instants.to_datetime(begin))
    assert [moment.strftime("%Y-%m-%d") for moment in found] == [day.strip() for day in following.split(",")]


@pytest.mark.parametrize("row", rows("Coming from elsewhere"), ids=lambda row: f"{row[0]} {row[1]} {row[2]}")
def test_coming_from_elsewhere(row: list[str]) -> None:
    expression, name, begin, expected = row[:4]
    at = instants.from_datetime(datetime.fromisoformat(begin).replace(tzinfo=UTC)) - 1
    plan = schedule(expression, name)
    found = []
    for text in (each.strip() for each in expected.split(",")):
        occurrence = plan.next(at)
        assert occurrence is not None
        at = occurrence.at
        shape = "%m-%d %H:%M:%S" if text.count(":") == 2 else "%m-%d %H:%M"
        found.append(instants.to_datetime(at).strftime(shape))
    assert ", ".join(found) == expected


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"]
EXPRESSIONS = [
    "30 2 * * *", "*/15 * * * *", "0 * * * *", "0 1,2,3 * * *", "*/20 2 * * *", "15 */2 * * *", "45 1-3 * * *",
    "*/30 30 2 * * *", "0 0 1 * *", "7 2 * * SUN", "59 23 L * *", "0 3 * * 7#1", "*/7 1,2 * * *",
]  # fmt: skip
YEAR = instant("2026-01-01T00:00:00Z")


@settings(deadline=None)
@given(
    expression=st.sampled_from(EXPRESSIONS),
    name=st.sampled_from(ZONES),
    begin=st.integers(YEAR, YEAR + 370 * 86_400 * SECOND),
)
def test_latest_is_the_reverse_of_next(expression: str, name: str, begin: int) -> None:
    plan = schedule(expression, name)
    first = plan.next(begin)
    assert first is not None
    assert first.at > begin
    second = plan.next(first.at)
    assert second is not None
    assert plan.latest(after=begin, until=second.at - 1) == first
    assert plan.latest(after=begin, until=first.at) == first
    assert plan.latest(after=begin, until=first.at - 1) is None
    assert plan.latest(after=first.at, until=second.at) == second
    assert plan.first_of_latest(2, after=begin, until=second.at) == first
    assert plan.first_of_latest(1, after=begin, until=second.at) == second


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize("expression", ["*/15 * * * *", "*/20 2 * * *", "0 * * * *", "*/7 1,2 * * *"])
def test_schedules_with_a_star_fire_whenever_the_local_clock_matches(expression: str, name: str) -> None:
    """Held against a clock that is looked at each minute, around every change of the year."""
    plan, here = schedule(expression, name), zone(name)
    minutes, hours = plan.cron.text.split()[:2]
    wanted_minutes = set(range(0, 60, int(minutes[2:]))) if minutes.startswith("*/") else {int(minutes)}
    wanted_hours = set(range(24)) if hours == "*" else {int(hour) for hour in hours.split(",")}
    for day in ("2026-03-08", "2026-03-29", "2026-04-05", "2026-10-04", "2026-10-25", "2026-11-01", "2026-02-15"):
        begin = instant(f"{day}T00:00:00Z") - 86_400 * SECOND
        looked = (begin + minute * 60 * SECOND for minute in range(3 * 1440))
        expected = [
            at
            for at in looked
            if (local := instants.to_datetime(at).astimezone(here)).minute in wanted_minutes
            and local.hour in wanted_hours
        ]
        assert fired(plan, begin - 1, begin + 3 * 86_400 * SECOND - 1) == expected
        backwards = []
        until = begin + 3 * 86_400 * SECOND - 1
        while (occurrence := plan.latest(after=begin - 1, until=until)) is not None:
            backwards.append(occurrence.at)
            until = occurrence.at - 1
        assert backwards[::-1] == expected


@pytest.mark.parametrize("name", ZONES)
def test_daily_schedule_fires_on_each_day_of_the_year_once(name: str) -> None:
    for expression in ("30 2 * * *", "15 30 2 * * *", "15 0 * * *", "45 1 * * *"):
        plan, here = schedule(expression, name), zone(name)
        begin = datetime(2026, 1, 1, tzinfo=here)
        found = fired(plan, instants.from_datetime(begin) - 1, instants.from_datetime(begin.replace(year=2027)) - 1)
        assert [instants.to_datetime(at).astimezone(here).timetuple().tm_yday for at in found] == list(range(1, 366))


def test_bounds_are_inclusive() -> None:
    start, end = instant("2026-05-01T06:00:00Z"), instant("2026-05-03T06:00:00Z")
    plan = schedule("0 6 * * *", start=start, end=end)
    assert fired(plan, 0, instants.LAST) == [start, start + 86_400 * SECOND, end]
    assert plan.latest(after=0, until=instants.LAST) is not None
    assert plan.latest(after=0, until=start - 1) is None
    assert plan.next(end) is None


def test_end_of_the_calendar_is_the_end_of_the_schedule() -> None:
    plan = schedule("0 0 1 1 *", "America/New_York")
    assert plan.next(instants.LAST - 1) is None
    assert plan.next(instant("9998-06-01T00:00:00Z")) is not None


def test_half_a_second_before_is_before() -> None:
    plan = schedule("* * * * * *")
    noon = instant("2026-05-01T12:00:00Z")
    assert [plan.next(noon - 500_000), plan.next(noon), plan.next(noon + 1)] == [
        plan.next(noon - 1), plan.next(noon + 999_999), plan.next(noon + 500_000)
    ]  # fmt: skip
    latest = plan.latest(after=0, until=noon + 999_999)
    assert latest is not None
    assert latest.at == noon


@pytest.mark.parametrize("name", sorted(NICKNAMES))
def test_nicknames(name: str) -> None:
    assert parse(name.upper()) == parse(NICKNAMES[name])


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime", "Europe", "europe\0", "X" * 5000]
)
def test_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown time zone .*; expected an IANA name like Europe/Berlin"):
        zone(name)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        cron = parse(text)
    except ValueError:
        return
    assert CronSchedule(cron=cron, zone=zone("Europe/Berlin")).next(YEAR) is not None
