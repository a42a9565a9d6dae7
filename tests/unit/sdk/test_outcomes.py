"""What a rule's author is told of events that do not get through."""

from datetime import UTC, datetime

import pytest

from attune_sensor._outcomes import WINDOW, Outcomes, Standing, Told, due

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outcomes(clock: Clock) -> Outcomes:
    found = Outcomes(clock=clock, now=lambda: NOON)
    found.begin("u")
    return found


def standing(outcomes: Outcomes) -> Standing:
    found = outcomes.standing("u")
    assert found is not None
    return found


def test_where_nothing_is_refused_nothing_is_said(outcomes: Outcomes) -> None:
    assert outcomes.standing("u") is None
    outcomes.passed("u")
    assert outcomes.standing("u") is None


def test_a_first_event_that_is_refused_means_that_nothing_gets_through(outcomes: Outcomes) -> None:
    outcomes.refused("u", "payload.k: 'a' is not of type 'number'.")
    assert standing(outcomes).failing
    assert standing(outcomes).text == (
        "Nothing gets through: 1 event refused since 2026-01-01T12:00:00Z; "
        "the last reason: payload.k: 'a' is not of type 'number'"
    )


def test_some_lines_may_be_a_greeting(outcomes: Outcomes) -> None:
    for failing in (False, False, True):
        outcomes.refused("u", "no JSON", what="lines", tolerated=2)
        assert standing(outcomes).failing == failing


def test_what_anybody_may_have_sent_is_a_remark_until_there_are_several(outcomes: Outcomes) -> None:
    for failing in (False, False, False, False, True):
        outcomes.refused("u", "401", what="requests", stray=True)
        assert standing(outcomes).failing == failing
    outcomes.passed("u")
    assert not standing(outcomes).failing


def test_where_events_come_strays_do_not_hide_it(outcomes: Outcomes, clock: Clock) -> None:
    outcomes.passed("u")
    for number in range(1, WINDOW + 1):
        clock.now += 60
        outcomes.refused("u", "401", what="requests", stray=True)
        assert standing(outcomes).failing == (number == WINDOW)


def test_one_refusal_that_is_no_stray_counts_among_strays(outcomes: Outcomes) -> None:
    outcomes.refused("u", "401", what="requests", stray=True)
    outcomes.refused("u", "too large", what="requests")
    assert standing(outcomes).failing


def test_one_refusal_among_many_is_a_remark(outcomes: Outcomes) -> None:
    for _ in range(1000):
        outcomes.passed("u")
    outcomes.refused("u", "too deep")
    assert not standing(outcomes).failing
    assert standing(outcomes).text.startswith("Not everything gets through: 1 event refused")


def test_after_many_refusals_in_a_row_nothing_gets_through_until_one_does(outcomes: Outcomes) -> None:
    outcomes.passed("u")
    for _ in range(8):
        outcomes.refused("u", "no")
    assert standing(outcomes).failing
    assert standing(outcomes).number == 8
    outcomes.passed("u")
    assert not standing(outcomes).failing


def test_of_a_rule_with_few_events_few_refusals_suffice_when_nothing_got_through_for_long(
    outcomes: Outcomes, clock: Clock
) -> None:
    outcomes.passed("u")
    for _ in range(3):
        outcomes.refused("u", "no")
    assert not standing(outcomes).failing
    clock.now += 60
    assert standing(outcomes).failing


def test_it_stays_as_long_as_it_is_so(outcomes: Outcomes, clock: Clock) -> None:
    outcomes.refused("u", "no")
    clock.now += 30 * 86400
    assert standing(outcomes).failing


def test_a_remark_goes_when_enough_got_through(outcomes: Outcomes) -> None:
    outcomes.refused("u", "no")
    for _ in range(WINDOW - 1):
        outcomes.passed("u")
        assert outcomes.standing("u") is not None
    outcomes.passed("u")
    assert outcomes.standing("u") is None


def test_a_new_version_of_a_rule_begins_anew_and_unknown_rules_are_not_counted(outcomes: Outcomes) -> None:
    outcomes.refused("u", "no")
    outcomes.begin("u")
    assert outcomes.standing("u") is None
    outcomes.refused("other", "no")
    assert outcomes.standing("other") is None


def said(*, failing: bool = True, number: int = 1, why: str = "no") -> Standing:
    return Standing(failing=failing, number=number, what="events", why=why, since=NOON)


@pytest.mark.parametrize(
    ("standing_", "told", "expected"),
    [
        (None, None, None),
        (said(), None, 0.0),
        (said(), Told(None, 99.5), 0.5),
        (None, Told(said(), 90), 0.0),
        (said(failing=False), Told(said(), 90), 0.0),
        (said(), Told(said(), 0), None),
        (said(number=3), Told(said(number=2), 0), None),
        (said(number=4), Told(said(number=2), 0), 0.0),
        (said(number=4), Told(said(number=2), 90), 20.0),
        (said(why="other"), Told(said(), 90), 20.0),
    ],
)
def test_what_changes_is_said_at_once_and_numbers_slowly(
    standing_: Standing | None, told: Told | None, expected: float | None
) -> None:
    assert due(standing_, told, now=100.0) == expected


def test_a_rule_that_left_out_everything_so_far_has_a_remark(outcomes: Outcomes) -> None:
    for _ in range(2):
        outcomes.left_out("u", "the filter was not true", what="changes")
    assert outcomes.standing("u") is None
    outcomes.left_out("u", "the filter was not true", what="changes")
    assert not standing(outcomes).failing
    assert standing(outcomes).text == (
        "No event yet: 3 changes left out since 2026-01-01T12:00:00Z, because the filter was not true"
    )
    outcomes.passed("u")
    assert outcomes.standing("u") is None
    for _ in range(9):
        outcomes.left_out("u", "the filter was not true", what="changes")
    assert outcomes.standing("u") is None, "it had an event"


def test_refusals_are_graver_than_what_is_left_out(outcomes: Outcomes) -> None:
    for _ in range(5):
        outcomes.left_out("u", "the filter was not true", what="changes")
    outcomes.refused("u", "too deep")
    assert standing(outcomes).text.startswith("Nothing gets through: 1 event refused")


def test_a_rule_whose_events_have_to_wait_says_so_until_a_while_after_the_last(
    outcomes: Outcomes, clock: Clock
) -> None:
    outcomes.deferred("u", "the namespace shop is over its quota of 5 events a second.", wait=10.0)
    outcomes.passed("u")
    assert not standing(outcomes).failing
    assert standing(outcomes).text == (
        "Not everything gets through: events have had to wait since 2026-01-01T12:00:00Z, because the namespace shop is over "
        "its quota of 5 events a second"
    )
    clock.now += 35.0
    outcomes.deferred("u", "the namespace shop is over its quota of 5 events a second.", wait=0.0)
    clock.now += 29.0
    assert due(standing(outcomes), Told(standing(outcomes), clock.now), now=clock.now + 1e6) is None, (
        "nothing new to say"
    )
    clock.now += 2.0
    assert outcomes.standing("u") is None


def test_that_nothing_gets_through_is_graver_than_that_events_wait(outcomes: Outcomes) -> None:
    outcomes.deferred("u", "the namespace shop is over its quota.", wait=10.0)
    outcomes.refused("u", "no")
    assert standing(outcomes).failing
