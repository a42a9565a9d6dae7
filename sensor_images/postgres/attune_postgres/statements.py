"""What is asked of a table that rows are taken from. Pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

from attune_postgres.parameters import TableSubscription

#: Of a table, its columns with their types, and those that alone are a key (unique, never null, in every row).
COLUMNS: Final = """
SELECT a.attname::text AS name,
       pg_catalog.format_type(a.atttypid, -1) AS type,
       a.attnotnull AND EXISTS (
           SELECT FROM pg_catalog.pg_index i
           WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
             AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum
       ) AS key
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p')
"""
_TIMES: Final = ("timestamp with time zone", "timestamp without time zone")


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column of a table.

    Attributes:
        type: its type as a cast has it that takes a value of any length.
        key: whether no two rows have the same value in it.
    """

    type: str
    key: bool


class Statements(msgspec.Struct, frozen=True, kw_only=True):
    """What a source does with its table.

    Attributes:
        claim: lock the next rows ($1 at most) that no one else has locked. Of each: its id, the size of the whole row as JSON,
            and this JSON, unless it has more than $2 bytes. No further row is sent after $3 bytes of JSON.
        claim_again: lock those rows of $1 (ids as text) that are still there and that nobody else has locked; returns their ids.
        finish: delete or mark the rows of $1 (ids as text).
        rehearse: statements that do nothing but need the same rights.
    """

    claim: str
    claim_again: str
    finish: str
    rehearse: tuple[str, ...]


def problem_of(wanted: TableSubscription, columns: Mapping[str, Column]) -> str | None:
    """Why rows cannot be taken from a table, for the rule's author; None when they can.

    Args:
        wanted: what is to be read.
        columns: those of the table; none when it is not there, or is no table.
    """
    table = f"{wanted.schema}.{wanted.table}"
    if not columns:
        return f"there is no table {table}, or the user may not see it"
    for field, name in (("id", wanted.id), ("order", wanted.order), ("mark", wanted.mark), ("time", wanted.time)):
        if name is not None and name not in columns:
            has = ", ".join(sorted(columns))
            return f"parameters.{field}: the table {table} has no column {name}; it has {has}"
    if not columns[wanted.id].key:
        return (
            f"parameters.id: two rows of {table} could have the same {wanted.id}, and would be one event; "
            "it must be NOT NULL and have a unique index of its own"
        )
    if wanted.mark is not None and columns[wanted.mark].type not in (*_TIMES, "boolean"):
        return f"parameters.mark: the column {wanted.mark} of {table} must be a timestamp or a boolean"
    if wanted.time is not None and columns[wanted.time].type not in _TIMES:
        return f"parameters.time: the column {wanted.time} of {table} must be a timestamp"
    return None


def statements_of(wanted: TableSubscription, columns: Mapping[str, Column]) -> Statements:
    """What to do with a table that :func:`problem_of` says nothing about."""
    table = f"{quoted(wanted.schema)}.{quoted(wanted.table)}"
    identifier = quoted(wanted.id)
    keys = [quoted(name) for name in dict.fromkeys((wanted.order or wanted.id, wanted.id))]
    order = ", ".join(keys)
    open_rows, finish = "true", f"DELETE FROM {table}"
    if wanted.mark is not None:
        mark = quoted(wanted.mark)
        boolean = columns[wanted.mark].type == "boolean"
        open_rows = f"{mark} IS NOT TRUE" if boolean else f"{mark} IS NULL"
        finish = f"UPDATE {table} SET {mark} = {'true' if boolean else 'pg_catalog.now()'}"
    these = f"{identifier} = ANY($1::text[]::{columns[wanted.id].type}[])"
    rows = f"SELECT * FROM {table} WHERE {open_rows} ORDER BY {order}"
    return Statements(
        # Too large a row is not sent: it would have to be in memory here.
        claim=(
            f"WITH claimed AS MATERIALIZED ({rows} LIMIT $1::int8 FOR UPDATE SKIP LOCKED), "
            f"sized AS MATERIALIZED (SELECT claimed.{identifier}::text AS id, pg_catalog.octet_length(written.line) AS bytes, "
            "CASE WHEN pg_catalog.octet_length(written.line) <= $2::int4 THEN written.line END AS line, "
            f"pg_catalog.row_number() OVER (ORDER BY {', '.join(f'claimed.{key}' for key in keys)}) AS place FROM claimed "
            # OFFSET 0: so that the row is written once, and not each time that it is named.
            "CROSS JOIN LATERAL (SELECT pg_catalog.row_to_json(claimed.*)::text AS line OFFSET 0) AS written), "
            "summed AS (SELECT *, pg_catalog.sum(pg_catalog.octet_length(line)) "
            "OVER (ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM sized) "
            "SELECT id, bytes, line FROM summed WHERE coalesce(before, 0) < $3::int8 ORDER BY place"
        ),
        claim_again=(f"SELECT {identifier}::text FROM {table} WHERE {these} AND {open_rows} FOR UPDATE SKIP LOCKED"),
        finish=f"{finish} WHERE {these}",
        rehearse=(f"{rows} LIMIT 0 FOR UPDATE SKIP LOCKED", f"{finish} WHERE false"),
    )


def quoted(name: str) -> str:
    """An identifier as SQL."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
