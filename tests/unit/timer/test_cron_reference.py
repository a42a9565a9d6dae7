"""The timer fires as docs/timers.md says, by a second implementation of it, around changes of clocks.

``ATTUNE_CRON_CASES=10000`` takes more expressions, ``ATTUNE_CRON_SEED=…`` others; docs/soak.md has the figures.
"""

import os

import pytest
from support.cron_reference import Case, cases, expected

from attune_contract.calendar.cron import CronError, DayMatch, parse, problem
from attune_contract.calendar.zones import zone
from attune_timer.cron import CronSchedule

SECOND = 1_000_000
NUMBER = int(os.environ.get("ATTUNE_CRON_CASES", "40"))


def fired(case: Case) -> tuple[list[int], list[int]]:
    """What the product fires, found forwards and backwards."""
    cron = parse(case.expression, day_match=DayMatch.ALL if case.both else DayMatch.CRON)
    plan = CronSchedule(cron=cron, zone=zone(case.zone))
    forwards, at = [], case.begin * SECOND - 1
    while (following := plan.next(at)) is not None and following.at <= case.end * SECOND:
        at = following.at
        forwards.append(at // SECOND)
    backwards = [at // SECOND for at in plan._backwards(after=case.begin * SECOND - 1, until=case.end * SECOND)]
    return forwards, backwards[::-1]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [17, int(os.environ.get("ATTUNE_CRON_SEED", "18"))])
def test_the_product_is_the_documented_rule(seed: int) -> None:
    compared = occurrences = 0
    for case in cases(NUMBER, seed):
        reference = expected(case)
        if "never due" in (problem(case.expression) or ""):
            assert reference == [], (seed, case)
            continue
        try:
            forwards, backwards = fired(case)
        except CronError:  # with both day fields it is never due
            continue
        assert forwards == reference, (seed, case)
        assert backwards == reference, (seed, case)
        compared += 1
        occurrences += len(reference)
    print(f"seed {seed}: {compared} expressions, {occurrences} occurrences, no difference")
    assert compared > NUMBER * 0.9
