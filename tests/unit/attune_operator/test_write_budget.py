"""Whose times are written next: the stalest first, Sensors in turn, and never more than the rates."""

from collections import Counter

from attune_operator.rules.write_budget import WriteBudget


def always(uid: str) -> bool:
    return True


def budget(**rates: float) -> WriteBudget:
    return WriteBudget(**{"rate": 4.0, "sensor_rate": 1.0, **rates})


def taken(of: WriteBudget, *, until: float, step: float = 0.05) -> list[str]:
    """What is taken from 0 on, asked every ``step`` seconds."""
    found = (of.take(now=number * step, wanted=always) for number in range(round(until / step)))
    return [uid for uid in found if uid is not None]


def test_the_stalest_is_first_and_one_that_shows_nothing_before_all() -> None:
    waiting = budget(sensor_rate=4.0)
    for uid, shown in (("old", "2026-11-27T11:00:00Z"), ("new", "2026-11-27T12:00:00Z"), ("never", "")):
        waiting.offer(uid, sensor="a", shown=shown)
    assert taken(waiting, until=2) == ["never", "old", "new"]


def test_a_rule_that_begins_to_fire_does_not_wait_for_those_that_fire_all_the_time() -> None:
    waiting = budget()
    for number in range(1000):
        waiting.offer(f"busy-{number}", sensor="a", shown=f"2026-11-27T12:{number // 60:02}:{number % 60:02}Z")
    assert waiting.take(now=0.0, wanted=always) == "busy-0"
    waiting.offer("begins", sensor="a", shown="2026-11-26T12:00:00Z")
    assert waiting.take(now=1.0, wanted=always) == "begins"


def test_one_sensor_has_its_rate_and_all_have_theirs() -> None:
    alone = budget()
    for number in range(100):
        alone.offer(f"{number}", sensor="a", shown="")
    assert len(taken(alone, until=10)) == 10

    many = budget()
    for number in range(100):
        many.offer(f"{number % 10}/{number}", sensor=f"{number % 10}", shown="")
    found = taken(many, until=10)
    assert 36 <= len(found) <= 40
    assert set(Counter(uid.partition("/")[0] for uid in found).values()) <= {3, 4}, "Sensors take turns"


def test_it_says_how_long_to_wait() -> None:
    waiting = budget()
    assert waiting.wait(now=0.0) is None
    waiting.offer("x", sensor="a", shown="")
    assert waiting.wait(now=0.0) == 0.0
    assert waiting.take(now=0.0, wanted=always) == "x"
    waiting.offer("x", sensor="a", shown="")
    assert waiting.wait(now=0.4) == 0.6
    waiting.offer("y", sensor="b", shown="")
    assert waiting.wait(now=0.1) == 0.15
    assert waiting.wait(now=0.4) == 0.0


def test_what_has_nothing_to_be_written_any_more_costs_nothing() -> None:
    waiting = budget()
    for uid in ("gone", "right", "left"):
        waiting.offer(uid, sensor="a", shown="")
    assert waiting.take(now=0.0, wanted=lambda uid: uid == "left") == "left"
    assert len(waiting) == 0
    waiting.offer("gone", sensor="a", shown="")
    assert waiting.take(now=5.0, wanted=lambda uid: False) is None
    assert waiting.wait(now=5.0) is None


def test_one_that_waits_already_is_not_taken_twice() -> None:
    waiting = budget()
    waiting.offer("x", sensor="a", shown="")
    waiting.offer("x", sensor="a", shown="2026-11-27T12:00:00Z")
    assert taken(waiting, until=5) == ["x"]
