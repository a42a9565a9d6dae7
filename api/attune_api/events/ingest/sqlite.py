"""Inserting events on SQLite: a few statements of fixed sizes, which stay prepared.

Straight at the driver: SQLAlchemy would write a new statement for each size of a group, and SQLite would parse it, which is
most of the work for a group of 15. Nor is it one row at a time, nor do the statements return what they inserted: each row that
goes in or comes out so lets go of the interpreter's lock, and gets it back late while the event loop is busy.

There is one writer, so numbers follow each other: when as many rows are new as were given, their numbers are known.
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from attune_api.events import blocks
from attune_api.events.blocks import spans_of
from attune_api.events.ingest.rows import COLUMNS, NAMES, Key, Row, columns_of, key_of
from attune_api.storage.types import RawJson, UtcTime, encode_json, sqlite_time

_ROW: Final = f"({', '.join('?' * len(NAMES))})"
#: For 256, 128, … 1 rows. ``OR FAIL``: one that fails need not be undone by itself, since its transaction is rolled back. With
#: the default, ``ABORT``, SQLite would write each page that several rows change to a temporary file first.
_INSERTS: Final = {
    size: f"INSERT OR FAIL INTO events ({', '.join(NAMES)}) VALUES {', '.join([_ROW] * size)} ON CONFLICT DO NOTHING"  # noqa: S608 - of names
    for size in (2**n for n in range(8, -1, -1))
}
_NEWEST: Final = "SELECT id, rule_uid, seq FROM events ORDER BY seq DESC LIMIT ?"
_NOTE_TIMES: Final = """
INSERT INTO event_blocks (block, first_occurred, last_occurred) VALUES (?, ?, ?)
ON CONFLICT (block) DO UPDATE SET
    first_occurred = min(first_occurred, excluded.first_occurred),
    last_occurred = max(last_occurred, excluded.last_occurred)
"""
#: What a value becomes for the driver, as SQLAlchemy's types make it; its own for times takes five times as long.
_MADE: Final = {
    **{column.name: sqlite_time for column in COLUMNS if isinstance(column.type, UtcTime)},
    **{column.name: encode_json for column in COLUMNS if column.type is RawJson},
    "id": lambda value: value.hex,
}


def insert(connection: Connection, rows: Sequence[Row]) -> Sequence[int | None]:
    """Insert rows with different keys, in their order.

    Returns:
        The ``seq`` of each; None for one whose key was there before.

    Raises:
        sqlalchemy.exc.DBAPIError: the database could not, or would not.
    """
    values = list(zip(*columns_of(rows, _MADE), strict=True))
    cursor = connection.connection.cursor()
    inserted = start = 0
    try:
        for size, statement in _INSERTS.items():
            while len(values) - start >= size:
                cursor.execute(statement, tuple(chain.from_iterable(values[start : start + size])))
                inserted += cursor.rowcount
                start += size
        seqs: Sequence[int | None]
        if inserted == len(rows):
            last: int = cursor.lastrowid
            seqs = range(last - inserted + 1, last + 1)
        else:
            seqs = _seqs(cursor, rows, inserted)
        for block, (first, last_time) in spans_of(seqs, [row["occurred_at"] for row in rows], size=blocks.SIZE).items():
            cursor.execute(_NOTE_TIMES, (block, sqlite_time(first), sqlite_time(last_time)))
    except sqlite3.Error as error:
        raise DBAPIError.instance(None, None, error, sqlite3.Error, hide_parameters=True) from error
    finally:
        cursor.close()
    return seqs


def _seqs(cursor: Any, rows: Sequence[Row], inserted: int) -> list[int | None]:
    """Which of the rows are the newest ``inserted`` ones that there are."""
    found: dict[Key, int] = {}
    for key, rule_uid, seq in cursor.execute(_NEWEST, (inserted,)).fetchall():
        found[int(key, 16), rule_uid] = seq
    return [found.get(key_of(row)) for row in rows]
