"""What a connection to PostgreSQL leads to, and what is set in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import asyncpg


@dataclass(frozen=True, slots=True)
class Session:
    """What a connection leads to.

    Attributes:
        started_at: as :func:`started_at` has it.
        pooled: whether a pooler is in between. It may give each transaction another process of the server, so nothing may be
            set or prepared for longer than a transaction.
    """

    started_at: datetime
    pooled: bool


def local_settings(settings: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """A statement that makes settings for the transaction that it is in, and its parameters."""
    columns = (f"pg_catalog.set_config(${2 * n + 1}, ${2 * n + 2}, true)" for n in range(len(settings)))
    return f"SELECT {', '.join(columns)}", tuple(part for item in settings.items() for part in item)


async def set_up(connection: asyncpg.Connection, settings: Mapping[str, str]) -> Session:
    """Make settings for the session, unless there is a pooler. Not while connecting, since a pooler refuses those it does not
    know (PgBouncer).
    """
    # A pooler gives process ids of its own to its clients.
    columns = ["pg_catalog.pg_postmaster_start_time()", "pg_catalog.pg_backend_pid() <> $1::int4"]
    columns += [
        f"CASE WHEN pg_catalog.pg_backend_pid() = $1 THEN pg_catalog.set_config(${2 * n + 2}, ${2 * n + 3}, false) END"
        for n in range(len(settings))
    ]
    values = [part for item in settings.items() for part in item]
    # Without a name, also where names are kept: it may be the first that tells of a pooler.
    statement = await connection.prepare(f"SELECT {', '.join(columns)}", name="")
    row = await statement.fetchrow(connection.get_server_pid(), *values)
    return Session(started_at=row[0], pooled=row[1])


async def started_at(connection: asyncpg.Connection) -> datetime:
    """When the server was started: another one at the same address was started at another time."""
    started: datetime = await connection.fetchval("SELECT pg_catalog.pg_postmaster_start_time()")
    return started
