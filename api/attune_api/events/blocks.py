"""From a time to a place: between which ``seq`` events of a time can be.

Pages go by ``seq``, the order of commits, and readers ask for times of occurrence. The two go together, mostly: a sensor
that was cut off delivers late. So for each block of ``seq`` the earliest and the latest ``occurred_at`` in it are kept, and
a reader of a time looks only into blocks that can have it (a zone map). That is one small row per :data:`SIZE` events,
written once per transaction, where an index on ``(filter, occurred_at)`` would be an entry per event and filter.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final, Literal

from sqlalchemy import BigInteger, Connection, Select, bindparam, delete, func, select

from attune_api.storage.tables import METADATA

BLOCKS: Final = METADATA.tables["event_blocks"]
#: Numbers in a block. Migration 0003 has it too: changing it means refilling the table.
SIZE: Final = 4096


def spans_of(
    seqs: Sequence[int | None], times: Sequence[datetime], *, size: int
) -> dict[int, tuple[datetime, datetime]]:
    """The earliest and the latest time in each block. Pure.

    Args:
        seqs: of events; None for one that is in no block.
        times: when each occurred.
        size: numbers in a block.
    """
    if isinstance(seqs, range) and seqs[0] // size == seqs[-1] // size:
        return {seqs[0] // size: (min(times), max(times))}
    found: dict[int, tuple[datetime, datetime]] = {}
    for seq, time in zip(seqs, times, strict=True):
        if seq is not None:
            first, last = found.get(seq // size, (time, time))
            found[seq // size] = (min(first, time), max(last, time))
    return found


def postgresql_note_times(stored: str, *, size: str, first: str = "occurred_at", last: str = "occurred_at") -> str:
    """A part of a statement that keeps the times of events which were just stored, in the same transaction.

    Args:
        stored: name of what it has of the new events, with ``seq`` and times.
        size: the parameter in which it gets :data:`SIZE`.
        first: the name of the time that may be the earliest.
        last: of that which may be the latest.
    """
    return f"""
    INSERT INTO event_blocks AS old (block, first_occurred, last_occurred)
    SELECT seq / {size}::bigint, min({first}), max({last}) FROM {stored} GROUP BY 1
    ON CONFLICT (block) DO UPDATE SET
        first_occurred = least(old.first_occurred, excluded.first_occurred),
        last_occurred = greatest(old.last_occurred, excluded.last_occurred)
    """  # noqa: S608 - of names that the program gives


def spans(
    connection: Connection,
    *,
    after: datetime | None,
    before: datetime | None,
    order: Literal["asc", "desc"],
    low: int,
    high: int,
    most: int,
) -> tuple[list[tuple[int, int]], bool]:
    """Where events of a time can be, in the direction of ``order``.

    Args:
        connection: to read with.
        after: earliest time, inclusive.
        before: latest time, exclusive.
        order: which way.
        low: only above this ``seq``.
        high: only below this one.
        most: blocks to look at.

    Returns:
        Spans, each as an exclusive lower and an exclusive upper ``seq``; and whether that is all there is.
    """
    values = {**_parameters(after=after, before=before, low=low, high=high), "most": most}
    blocks = list(connection.execute(_blocks(after is not None, before is not None, order), values).scalars())
    return merge(blocks, low=low, high=high), len(blocks) < most


def hull(connection: Connection, *, after: datetime, before: datetime) -> tuple[int, int] | None:
    """The least span, as of :func:`spans`, that holds every event of a time; None when there is none."""
    first, last = connection.execute(
        _overlapping(after=True, before=True).with_only_columns(func.min(BLOCKS.c.block), func.max(BLOCKS.c.block)),
        _parameters(after=after, before=before, low=0, high=2**63 - 1),
    ).one()
    return None if first is None else (first * SIZE - 1, (last + 1) * SIZE)


@cache
def _blocks(after: bool, before: bool, order: Literal["asc", "desc"]) -> Select[Any]:
    """Blocks to look into, made once: a statement costs far more to make than to run."""
    column = BLOCKS.c.block
    statement = _overlapping(after=after, before=before)
    return statement.order_by(column.asc() if order == "asc" else column.desc()).limit(
        bindparam("most", type_=BigInteger)
    )


def _overlapping(*, after: bool, before: bool) -> Select[Any]:
    column = BLOCKS.c.block
    statement = select(column).where(column >= bindparam("first"), column <= bindparam("last"))
    if after:
        statement = statement.where(BLOCKS.c.last_occurred >= bindparam("after"))
    if before:
        statement = statement.where(BLOCKS.c.first_occurred < bindparam("before"))
    return statement


def _parameters(*, after: datetime | None, before: datetime | None, low: int, high: int) -> dict[str, Any]:
    times = {name: time for name, time in (("after", after), ("before", before)) if time is not None}
    return {"first": (low + 1) // SIZE, "last": (high - 1) // SIZE, **times}


def merge(blocks: Sequence[int], *, low: int, high: int) -> list[tuple[int, int]]:
    """Blocks as spans, neighbours together, in their order, cut to what lies above ``low`` and below ``high``."""
    found: list[tuple[int, int]] = []
    for block in blocks:
        a, b = max(block * SIZE - 1, low), min((block + 1) * SIZE, high)
        if found and a == found[-1][1] - 1:
            found[-1] = (found[-1][0], b)
        elif found and b == found[-1][0] + 1:
            found[-1] = (a, found[-1][1])
        else:
            found.append((a, b))
    return found


def forget_below(connection: Connection, *, seq: int) -> None:
    """Forget the blocks all of whose events were deleted: those that end below ``seq``."""
    connection.execute(delete(BLOCKS).where(BLOCKS.c.block < seq // SIZE))
