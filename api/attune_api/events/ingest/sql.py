"""Events in the database: stored once by their rule and id, found by keyset pages.

**An id belongs to its rule.** Sensors choose ids, and can compute those that another rule's events will have. So an id is
compared with those of the same rule only: nothing that is stored for one rule keeps an event of another rule out.

**The order of ``seq`` is the order of commits.** A follower (a page reader, the outbox) remembers one number and asks for
what is above it, so a row must never become visible below a number that was visible before. On SQLite that is given:
there is one writer. On PostgreSQL a sequence hands out numbers before transactions commit, so two replicas could commit
5 before 4, and a follower would skip 4 for ever. Therefore :func:`store_events` takes an advisory lock for the rest of
its transaction before it draws any number. PostgreSQL releases it only after the commit is visible. Group commit makes
that cheap: the lock is taken once for hundreds of events. Numbers may have gaps (a duplicate, a rollback on PostgreSQL).
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from attune_api.events.ingest import sqlite
from attune_api.events.ingest.rows import Key, Row, key_of
from attune_api.events.table import EVENTS

#: What tells one event from another; see the table's unique index.
_KEY: Final = (EVENTS.c.id, EVENTS.c.rule_uid)


class Status(StrEnum):
    """What became of an event."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event.

    ``seq`` when it is in the database, ``reason`` when it was refused; ``conflict`` when that is because the id is taken.
    """

    status: Status
    seq: int | None = None
    reason: str | None = None
    conflict: bool = False


_OTHERS: Final = "Another sensor has stored an event of this rule with this id; an id names one occurrence of the rule."


def store_events(connection: Connection, *, rows: Sequence[Row]) -> list[Outcome]:
    """Insert events whose ids are new to their rules. Of those with an id that is known, the first one stored stays as it is.

    Args:
        connection: in a transaction, which the caller commits.
        rows: as :func:`attune_api.events.ingest.reports.as_row` makes them; two may have the same rule and id.

    Returns:
        What became of each, in their order.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database could not, or would not; nothing is stored.
    """
    if not rows:
        return []
    keys = [key_of(row) for row in rows]
    unique = dict(zip(keys, rows, strict=True))
    if len(unique) < len(rows):
        unique = {}
        for key, row in zip(keys, rows, strict=True):
            unique.setdefault(key, row)
    seqs = _insert(connection, list(unique.values()))
    stored = {key: seq for key, seq in zip(unique, seqs, strict=True) if seq is not None}
    if len(stored) == len(rows):
        return [Outcome(status=Status.STORED, seq=seq) for seq in seqs]
    known = _owners(connection, keys=[key for key in unique if key not in stored])
    outcomes: list[Outcome] = []
    for key, row in zip(keys, rows, strict=True):
        if key in known:
            outcomes.append(_again(row, owner=known[key]))
            continue
        outcomes.append(Outcome(status=Status.STORED, seq=stored[key]))
        known[key] = _Owner(stored[key], row["sensor_ref"])
    return outcomes


def _insert(connection: Connection, rows: Sequence[Row]) -> Sequence[int | None]:
    if connection.dialect.name == "sqlite":
        return sqlite.insert(connection, rows)
    from attune_api.events.ingest import postgresql  # asyncpg, which SQLite does without

    return postgresql.insert(connection, rows)


@dataclass(frozen=True, slots=True)
class _Owner:
    seq: int
    sensor_ref: str


def _again(row: Row, *, owner: _Owner) -> Outcome:
    if row["sensor_ref"] == owner.sensor_ref:
        return Outcome(status=Status.DUPLICATE, seq=owner.seq)
    return Outcome(status=Status.REFUSED, reason=_OTHERS, conflict=True)


def _owners(connection: Connection, *, keys: Sequence[Key]) -> dict[Key, _Owner]:
    found: dict[Key, _Owner] = {}
    for start in range(0, len(keys), 500):
        wanted = keys[start : start + 500]
        # Two lists and not pairs, which SQLite would not look up in its index; what other rules share is left aside.
        statement = select(*_KEY, EVENTS.c.seq, EVENTS.c.sensor_ref).where(
            EVENTS.c.id.in_([uuid.UUID(int=number) for number, _ in wanted]),
            EVENTS.c.rule_uid.in_(sorted({rule_uid for _, rule_uid in wanted})),
        )
        for row in connection.execute(statement):
            found[row.id.int, row.rule_uid] = _Owner(row.seq, row.sensor_ref)
    return {key: found[key] for key in keys if key in found}
