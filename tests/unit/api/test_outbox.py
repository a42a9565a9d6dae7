"""What the outbox does between the database and JetStream."""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.eventually import until

from attune_api.events.fresh import FreshEvents
from attune_api.streams.moving import MovingPosition

_TIME = datetime(2026, 11, 28, tzinfo=UTC)


def _row(seq: int, payload: bytes = b"{}") -> tuple[int, dict[str, Any]]:
    return seq, {
        "id": uuid.UUID(int=seq),
        "trigger_type": "core.webhook",
        "rule_uid": "rule",
        "rule_namespace": "default",
        "rule_name": "rule",
        "sensor_ref": "attune-system/core.webhook",
        "occurred_at": _TIME,
        "received_at": _TIME,
        "payload": msgspec.Raw(payload),
    }


def _fresh(**bounds: int) -> FreshEvents:
    fresh = FreshEvents(**bounds)
    fresh.wanted = True
    return fresh


@given(st.data())
def test_fresh_events_are_passed_on_in_their_order_and_never_over_a_gap(data: st.DataObject) -> None:
    """Some numbers are another replica's, or nobody's: there the table has to be read, and only there."""
    mine = data.draw(st.lists(st.booleans(), max_size=30))
    seqs = [seq for seq, is_mine in enumerate(mine, 1) if is_mine]
    fresh = _fresh(most=data.draw(st.integers(1, 40)))
    place = added = 0
    while place < len(mine):
        if added < len(seqs) and data.draw(st.booleans()):
            size = data.draw(st.integers(1, 5))
            fresh.add(map(_row, data.draw(st.permutations(seqs[added : added + size]))))
            added += size
        limit = data.draw(st.integers(1, 10))
        events, more = fresh.take(beyond=place, limit=limit)
        assert [event.seq for event in events] == list(range(place + 1, place + 1 + len(events)))
        assert all(mine[event.seq - 1] for event in events)
        assert len(events) <= limit
        place += len(events)
        left = [seq for seq in seqs[:added] if seq > place]
        assert more or not left or not events  # who is told that this is the end misses nothing
        if not events:
            place += 1  # the table was read


def test_nothing_is_kept_that_nobody_takes_nor_beyond_the_bounds() -> None:
    fresh = FreshEvents(most_bytes=10)
    fresh.add([_row(1)])
    fresh.wanted = True
    assert fresh.take(beyond=0, limit=5) == ([], False)
    fresh.add([_row(1, b"[1,2]"), _row(2, b"[1,2]"), _row(3, b"[]")])
    events, more = fresh.take(beyond=0, limit=5)
    assert ([event.seq for event in events], more) == ([1, 2], True)
    assert fresh.take(beyond=2, limit=5) == ([], True)
    fresh.add([_row(4)])
    fresh.forget()
    assert fresh.take(beyond=3, limit=5) == ([], False)


async def test_the_position_is_written_behind_what_is_acknowledged_and_at_the_end() -> None:
    written: list[int] = []

    async def write(position: int) -> None:
        written.append(position)

    position = MovingPosition(7, write=write)
    async with position.kept() as writing:
        for seq in (8, 9, 10):
            position.move(seq)
        await until(lambda: written == [10], within=10)
        assert not writing.done()
        position.move(11)
    assert written == [10, 11]


async def test_a_position_that_cannot_be_written_is_not_kept_quiet() -> None:
    async def write(_: int) -> None:
        raise OSError("the database is away")

    position = MovingPosition(0, write=write)
    async with position.kept() as writing:
        position.move(1)
        await asyncio.wait({writing}, timeout=10)
        with pytest.raises(OSError, match="away"):
            writing.result()
    assert position.value == 1
