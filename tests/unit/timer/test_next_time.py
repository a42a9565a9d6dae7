"""What a timer says of its next occurrence."""

from datetime import UTC, datetime

import pytest

from attune_contract.calendar import cron, zones
from attune_timer import instants
from attune_timer.cron import CronSchedule
from attune_timer.next_time import remark, worth_saying
from attune_timer.schedule import IntervalSchedule, Occurrence, OnceSchedule, Schedule

NOON = instants.from_datetime(datetime(2026, 3, 2, 12, tzinfo=UTC))
SECOND = 1_000_000


def at(expression: str) -> CronSchedule:
    return CronSchedule(cron=cron.parse(expression), zone=zones.zone("UTC"))


def every(seconds: int, *, end: int | None = None) -> IntervalSchedule:
    return IntervalSchedule(anchor=NOON, interval=seconds * SECOND, end=end)


@pytest.mark.parametrize(
    ("schedule", "now", "said"),
    [
        (every(59), NOON + SECOND, None),
        (every(60), NOON + SECOND, NOON + 60 * SECOND),
        (every(60), NOON + 59 * SECOND, NOON + 60 * SECOND),
        (every(3600), NOON + 3599 * SECOND, NOON + 3600 * SECOND),
        (at("*/5 * 9-17 * * *"), NOON, None),
        (at("*/5 * 9-17 * * *"), NOON + 6 * 3600 * SECOND, NOON + 21 * 3600 * SECOND),
        (OnceSchedule(at=NOON), NOON - SECOND, NOON),
        (OnceSchedule(at=NOON), NOON, None),
        (every(5, end=NOON + 7 * SECOND), NOON + 3 * SECOND, NOON + 5 * SECOND),
    ],
)
def test_the_next_occurrence_is_said_where_occurrences_are_sparse(
    schedule: Schedule, now: int, said: int | None
) -> None:
    found = worth_saying(schedule, schedule.next(now), now=now)
    assert (None if found is None else found.at) == said


@pytest.mark.parametrize(
    ("following", "said"),
    [
        (None, ""),
        (Occurrence(NOON + 31 * 86_400 * SECOND), ""),
        (Occurrence(NOON + 31 * 86_400 * SECOND + SECOND), "No event is due before 2026-04-02T12:00:01Z."),
    ],
)
def test_what_is_far_away_is_said_in_a_sentence(following: Occurrence | None, said: str) -> None:
    assert remark(following, now=NOON) == said
