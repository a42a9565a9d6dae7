"""Whatever is killed, asked or set in between, the same log gives the same events, and those of a simple model."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pattern_model import SECOND, START, Entry, Log, absent_of, counts_of, live, of_each_key

from attune_patterns.decide import Pattern
from attune_patterns.operators import (
    Absent,
    AbsentAt,
    All,
    Count,
    Debounce,
    InOrder,
    Operator,
    Throttle,
)

WITHIN = 20 * SECOND
HOUR = 3600 * SECOND


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Events of a few keys, some late, some out of order, some dated after their receipt; the API's clock may be set back."""
    log = []
    received = START
    for _ in range(draw(st.integers(1, 40))):
        received += draw(
            st.sampled_from([0, 1, SECOND, 5 * SECOND, 19 * SECOND, 20 * SECOND, 25 * SECOND, -30 * SECOND])
        )
        late = draw(st.sampled_from([0, 0, 0, 1, SECOND, 30 * SECOND, 90 * SECOND, -5 * SECOND]))
        log.append(Entry(received, received - late, draw(st.sampled_from("abc")), draw(st.integers(0, 2))))
    return log


def pattern(operator: Operator, *, most_keys: int = 10_000) -> Pattern:
    return Pattern(operator=operator, most_keys=most_keys)


def end_of(log: Log) -> int:
    return max(entry.received for entry in log) + HOUR


OPERATORS: list[Operator] = [
    Absent(within=WITHIN, tells_return=True),
    AbsentAt(within=WITHIN, next_time=lambda after: (after // (60 * SECOND) + 1) * 60 * SECOND, tells_return=True),
    All(members=3, window=WITHIN),
    Count(count=3, window=WITHIN),
    Debounce(quiet=WITHIN),
    InOrder(steps=[0, 1, 0, 2], window=WITHIN),
    Throttle(every=WITHIN),
]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: type(operator).__name__)
@given(log=logs(), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_kills_and_looks_in_between_change_nothing(operator: Operator, log: Log, seed: int) -> None:
    undisturbed = live(pattern(operator), log, until=end_of(log))
    assert live(pattern(operator), log, until=end_of(log), chance=random.Random(seed)) == undisturbed


@given(log=logs())
@settings(max_examples=100, deadline=None)
def test_absent_is_what_the_model_says(log: Log) -> None:
    found = live(pattern(Absent(within=WITHIN, tells_return=True)), log, until=end_of(log))
    assert sorted(found.values()) == of_each_key(log, absent_of, within=WITHIN, until=end_of(log))


@given(log=logs(), count=st.integers(2, 5))
@settings(max_examples=100, deadline=None)
def test_count_is_what_the_model_says(log: Log, count: int) -> None:
    found = live(pattern(Count(count=count, window=WITHIN)), log, until=end_of(log))
    assert sorted(found.values()) == of_each_key(log, counts_of, window=WITHIN, count=count)


@pytest.mark.parametrize("operator", [OPERATORS[0], OPERATORS[3]], ids=["Absent", "Count"])
def test_ten_thousand_keys(operator: Operator) -> None:
    chance = random.Random(4711)
    received, log = START, []
    for _ in range(30_000):
        received += chance.randint(0, 3000)
        late = chance.choice([0, 0, 0, SECOND, 40 * SECOND])
        log.append(Entry(received, received - late, f"device-{chance.randrange(10_000)}"))
    found = live(pattern(operator), log, until=end_of(log), chance=Rarely(1))
    assert len(found) > 1000
    if isinstance(operator, Absent):
        wanted = of_each_key(log, absent_of, within=WITHIN, until=end_of(log))
    else:
        wanted = of_each_key(log, counts_of, window=WITHIN, count=3)
    assert sorted(found.values()) == wanted


class Rarely(random.Random):
    """Chances that are a thousand times rarer: packing the state of 10,000 keys takes its time."""

    def random(self) -> float:
        return min(1.0, super().random() * 1000)
