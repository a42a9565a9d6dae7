"""Timers are put where the garbage collector does not look."""

import gc
from collections.abc import Iterator

import pytest

from attune_timer.garbage import LongLived


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_many_long_lived_objects_are_not_looked_at_again() -> None:
    gc.unfreeze()
    counter, kept = LongLived(), []
    for _ in range(999):
        kept.append([object()])
        counter.one_more()
    assert gc.get_freeze_count() == 0
    kept.append([object()])
    counter.one_more()
    assert gc.get_freeze_count() >= 1000
    assert len(gc.get_objects(2)) < 1000, "a full collection has next to nothing to do"
