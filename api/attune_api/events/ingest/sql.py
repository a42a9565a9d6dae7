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

import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Column, Connection, bindparam, make_url, select
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DBAPIError

from attune_api.events import blocks
from attune_api.events.blocks import note_times, postgresql_note_times
from attune_api.events.table import EVENTS
from attune_api.storage.types import RawJson, UtcTime, encode_json, sqlite_time

_SQLITE: Final = SQLiteDialect_pysqlite(json_serializer=encode_json)
_POSTGRESQL: Final = make_url("postgresql+asyncpg://").get_dialect()()

#: Key of the lock under which numbers are drawn on PostgreSQL ("events" in hexadecimal).
SEQUENCE_LOCK: Final = 0x6576656E7473


#: A row of the table, without its ``seq``.
Row = Mapping[str, Any]


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


#: What tells one event from another; see the table's unique index.
_KEY: Final = (EVENTS.c.id, EVENTS.c.rule_uid)
_STORED_COLUMNS: Final = tuple(column for column in EVENTS.columns if column.name != "seq")
_NAMES: Final = tuple(column.name for column in _STORED_COLUMNS)


def _postgresql_type(column: Column[Any]) -> str:
    """What a column's values are sent as. JSON goes as text: arrays of it would be encoded by a function in Python."""
    return "TEXT" if column.type is RawJson else column.type.compile(_POSTGRESQL)


#: All that there is to do, in one statement, because each one is a round trip and costs more than the events in it:
#: the lock, under which alone numbers are drawn; the events, as one array for each column, so that the text is the same
#: for any number of them; and what :func:`attune_api.events.blocks.note_times` does. The lock is held before the first
#: number is drawn, since every event is joined to its row.
_POSTGRESQL_INSERT: Final = f"""
WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock({SEQUENCE_LOCK})),
stored AS (
    INSERT INTO events ({", ".join(_NAMES)})
    SELECT {", ".join(f"new.{name}::json" if name == "payload" else f"new.{name}" for name in _NAMES)}
    FROM locked, unnest({
    ", ".join(f"${n}::{_postgresql_type(column)}[]" for n, column in enumerate(_STORED_COLUMNS, 1))
}) AS new ({", ".join(_NAMES)})
    ON CONFLICT DO NOTHING
    RETURNING id, rule_uid, seq, occurred_at
),
noted AS ({postgresql_note_times("stored", size=f"${len(_NAMES) + 1}")})
SELECT id, rule_uid, seq FROM stored
"""  # noqa: S608 - put together from the names of columns


def _sqlite_inserts(*returned: Column[Any]) -> dict[int, str]:
    """Statements for 256, 128, … 1 rows, so that any group is a few prepared statements."""
    head, row, tail = (
        str(
            sqlite_insert(EVENTS)
            .values({name: bindparam(name) for name in _NAMES})
            .on_conflict_do_nothing()
            .returning(*returned)
            .compile(dialect=_SQLITE, column_keys=list(_NAMES))
        )
        .replace("VALUES (", "VALUES \n(")
        .replace(") ON CONFLICT", ")\n ON CONFLICT")
        .split("\n")
    )
    return {size: f"{head}{', '.join([row] * size)}{tail}" for size in (2**n for n in range(8, -1, -1))}


#: To be read with the key of each event, and without its rule where that is known by the id.
_SQLITE_INSERTS: Final = _sqlite_inserts(*_KEY, EVENTS.c.seq)
_SQLITE_INSERTS_BY_ID: Final = _sqlite_inserts(EVENTS.c.id, EVENTS.c.seq)
#: The columns of a row, each with what makes its value one for the driver. SQLAlchemy's own for times takes five times as long.
_SQLITE_VALUES: Final = tuple(
    (
        column.name,
        sqlite_time if isinstance(column.type, UtcTime) else column.type.dialect_impl(_SQLITE).bind_processor(_SQLITE),
    )
    for column in _STORED_COLUMNS
)
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
    unique: dict[Key, Row] = {}
    for row in rows:
        unique.setdefault(key_of(row), row)
    insert = _insert_postgresql if connection.dialect.name == "postgresql" else _insert_sqlite
    stored = insert(connection, unique)
    if len(stored) == len(rows):
        return [Outcome(status=Status.STORED, seq=stored[key_of(row)]) for row in rows]
    known = _owners(connection, keys=[key for key in unique if key not in stored])
    outcomes: list[Outcome] = []
    for row in rows:
        key = key_of(row)
        if key in known:
            outcomes.append(_again(row, owner=known[key]))
            continue
        outcomes.append(Outcome(status=Status.STORED, seq=stored[key]))
        known[key] = _Owner(stored[key], row["sensor_ref"])
    return outcomes


#: The id as a number, and the rule's uid. A UUID is hashed by a function in Python, which eight times a row was a tenth of
#: the work of storing it.
Key = tuple[int, str]


def key_of(row: Row) -> Key:
    """What tells an event from others."""
    return row["id"].int, row["rule_uid"]


def _insert_postgresql(connection: Connection, rows: Mapping[Key, Row]) -> dict[Key, int]:
    """``seq`` of those that were new. Straight at the driver, for which SQLAlchemy would write a text for each size."""
    columns = tuple(
        [encode_json(row[name]) for row in rows.values()] if name == "payload" else [row[name] for row in rows.values()]
        for name in _NAMES
    )
    found = connection.exec_driver_sql(_POSTGRESQL_INSERT, (*columns, blocks.SIZE))
    return {(key.int, uid): seq for key, uid, seq in found}


def _insert_sqlite(connection: Connection, rows: Mapping[Key, Row]) -> dict[Key, int]:
    """A few statements of fixed sizes, which stay prepared; ``seq`` of those that were new.

    Straight at the driver: SQLAlchemy would write a new statement for each size of a group, and SQLite would parse it,
    which is most of the work for a group of 15. One row at a time is no better: each statement lets go of the interpreter's
    lock, and gets it back late while the event loop is busy. Text and values are SQLAlchemy's all the same.
    """
    rules = dict(rows.keys())
    by_id = len(rules) == len(rows)
    values = list(rows.values())
    stored: dict[Key, int] = {}
    cursor = connection.connection.cursor()
    start = 0
    try:
        for size, statement in (_SQLITE_INSERTS_BY_ID if by_id else _SQLITE_INSERTS).items():
            while len(values) - start >= size:
                cursor.execute(statement, _sqlite_values(values[start : start + size]))
                for key, *uid, seq in cursor.fetchall():
                    number = int(key, 16)
                    stored[number, uid[0] if uid else rules[number]] = seq
                start += size
    except sqlite3.Error as error:
        raise DBAPIError.instance(None, None, error, sqlite3.Error, hide_parameters=True) from error
    finally:
        cursor.close()
    note_times(connection, rows=((seq, rows[key]["occurred_at"]) for key, seq in stored.items()))
    return stored


def _sqlite_values(rows: Sequence[Row]) -> list[Any]:
    """What the driver is given for rows, one after the other."""
    values: list[Any] = []
    for row in rows:
        values += [row[name] if process is None else process(row[name]) for name, process in _SQLITE_VALUES]
    return values


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
    return found
