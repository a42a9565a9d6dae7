"""Somebody keeps changing what the operator applied: when it repairs, and what it says."""

from datetime import UTC, datetime, timedelta

from attune_operator.sensors import insistence
from attune_operator.sensors.insistence import History

START = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def fight(changes: int, *, every: float = 1.0, by: tuple[str, ...] = ("kyverno",)) -> tuple[History, datetime, int]:
    """Somebody changes the object ``every`` so many seconds, and it is repaired whenever that is allowed."""
    history: History | None = None
    now, repairs = START, 0
    for _ in range(changes):
        if insistence.wait(history, now=now) == 0:
            history = insistence.repaired(history, by=by, fields=("spec.template",), now=now)
            repairs += 1
        now += timedelta(seconds=every)
    assert history is not None
    return history, now, repairs


def test_the_first_changes_are_repaired_at_once() -> None:
    assert fight(4)[2] == 4
    assert insistence.sentence("Deployment", fight(3)[0]) is None


def test_then_ever_less_often_and_at_last_every_five_minutes() -> None:
    assert fight(40)[2] == 7, "in the 40 s in which 19 rollouts were seen"
    assert fight(3600)[2] <= 22
    history, now, _ = fight(3600)
    assert insistence.wait(history, now=now) <= 300


def test_it_says_who_changes_what_and_how_often() -> None:
    history, _, _ = fight(40)
    said = insistence.sentence("Deployment", history)
    assert said is not None
    assert said.startswith("kyverno changed spec.template 7 times in the Deployment since 12:00:00 UTC.")
    both, _, _ = fight(4, by=("istio", "kyverno"))
    assert "istio changed spec.template 4 times; kyverno" in str(insistence.sentence("Deployment", both))
    nameless, _, _ = fight(4, by=())
    assert "somebody changed spec.template 4 times" in str(insistence.sentence("Deployment", nameless))


def test_it_is_over_when_the_object_was_left_alone_for_long_enough() -> None:
    history, _, _ = fight(40)
    assert not insistence.calm(history, now=history.last + timedelta(seconds=60))
    assert insistence.calm(history, now=history.last + timedelta(seconds=60 + 2 * 40))
    few, _, _ = fight(2)
    assert insistence.calm(few, now=few.last + timedelta(seconds=60))
