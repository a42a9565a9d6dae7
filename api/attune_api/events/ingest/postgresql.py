"""Inserting events on PostgreSQL: many by ``COPY``, few by one statement.

``COPY`` costs a quarter less than arrays do, on both sides, but knows no ``ON CONFLICT``. Events that are stored already are
rare, so it is tried first, up to a savepoint; numbers are drawn before it. For few events its round trips would cost more.

Numbers are drawn under an advisory lock that is held until the commit is visible (:mod:`attune_api.events.ingest.sql`).
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
from sqlalchemy import Column, Connection, make_url

from attune_api.events import blocks
from attune_api.events.blocks import postgresql_note_times
from attune_api.events.ingest.rows import COLUMNS, NAMES, Row, columns_of, key_of
from attune_api.storage.types import RawJson, encode_json

#: Key of the lock under which numbers are drawn ("events" in hexadecimal).
SEQUENCE_LOCK: Final = 0x6576656E7473
#: From so many events on, they are copied.
_MANY: Final = 64
#: Seconds for which a connection copies nothing after a key that was there: where one is, as with two replicas of a sensor,
#: there are more.
_PAUSE: Final = 60.0
_PAUSED_UNTIL: Final = "attune_copies_from"

_DIALECT: Final = make_url("postgresql+asyncpg://").get_dialect()()
_MADE: Final = {column.name: encode_json for column in COLUMNS if column.type is RawJson}


def _type(column: Column[Any]) -> str:
    """What a column's values are sent as. JSON goes as text: arrays of it would be encoded by a function in Python."""
    return "TEXT" if column.type is RawJson else column.type.compile(_DIALECT)


_LOCKED: Final = f"locked AS MATERIALIZED (SELECT pg_advisory_xact_lock({SEQUENCE_LOCK}))"

#: All that there is to do, in one statement, because each one is a round trip and costs more than the events in it:
#: the lock, under which alone numbers are drawn; the events, as one array for each column, so that the text is the same
#: for any number of them; and the times of their blocks. The lock is held before the first number is drawn, since every
#: event is joined to its row.
_INSERT: Final = f"""
WITH {_LOCKED},
stored AS (
    INSERT INTO events ({", ".join(NAMES)})
    SELECT {", ".join(f"new.{name}::json" if name == "payload" else f"new.{name}" for name in NAMES)}
    FROM locked, unnest({", ".join(f"${n}::{_type(column)}[]" for n, column in enumerate(COLUMNS, 1))}) AS new ({
    ", ".join(NAMES)
})
    ON CONFLICT DO NOTHING
    RETURNING id, rule_uid, seq, occurred_at
),
noted AS ({postgresql_note_times("stored", size=f"${len(NAMES) + 1}")})
SELECT id, rule_uid, seq FROM stored
"""  # noqa: S608 - put together from the names of columns

#: What comes before a copy: the lock, numbers, and the times of their blocks. Of two blocks both get the times of all.
_DRAW: Final = f"""
WITH {_LOCKED},
drawn AS MATERIALIZED (
    SELECT nextval('events_seq_seq') AS seq, $3::timestamptz AS first, $4::timestamptz AS last
    FROM locked, generate_series(1, $1::bigint)
),
noted AS ({postgresql_note_times("drawn", size="$2", first="first", last="last")})
SELECT array_agg(seq ORDER BY seq) FROM drawn
"""  # noqa: S608 - put together from names that stand above


def insert(connection: Connection, rows: Sequence[Row]) -> Sequence[int | None]:
    """Insert rows with different keys, in their order.

    Returns:
        The ``seq`` of each; None for one whose key was there before.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database could not, or would not.
    """
    columns = columns_of(rows, _MADE)
    if len(rows) >= _MANY and time.monotonic() >= connection.info.get(_PAUSED_UNTIL, 0.0):
        seqs = _copy(connection, rows, columns)
        if seqs is not None:
            return seqs
    # Straight at the driver, for which SQLAlchemy would write a text for each size.
    found = connection.exec_driver_sql(_INSERT, (*columns, blocks.SIZE))
    stored = {(key.int, rule_uid): seq for key, rule_uid, seq in found}
    return [stored.get(key_of(row)) for row in rows]


def _copy(connection: Connection, rows: Sequence[Row], columns: Sequence[Sequence[Any]]) -> Sequence[int] | None:
    """The ``seq`` of each row when all are new and the server takes them; else None, and nothing was done."""
    times = [row["occurred_at"] for row in rows]
    connection.exec_driver_sql("SAVEPOINT copying")
    seqs: Sequence[int] = connection.exec_driver_sql(
        _DRAW, (len(rows), blocks.SIZE, min(times), max(times))
    ).scalar_one()
    driver: Any = connection.connection.dbapi_connection
    try:
        driver.run_async(
            lambda raw: raw.copy_records_to_table(
                "events", records=zip(seqs, *columns, strict=True), columns=("seq", *NAMES)
            )
        )
    except asyncpg.UniqueViolationError:
        connection.info[_PAUSED_UNTIL] = time.monotonic() + _PAUSE
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError):
        pass  # what it is about, the next statement says
    else:
        return seqs
    connection.exec_driver_sql("ROLLBACK TO SAVEPOINT copying")
    return None
