"""Connecting to whichever of several PostgreSQL servers is the primary, soon after it became that."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg

from attune_api.postgres_url import PostgresUrl, connect_arguments
from attune_api.storage.faults import ConnectError

#: Seconds after which opening a connection is given up, unless the URL says otherwise.
CONNECT_TIMEOUT: Final = 5.0
#: Seconds after which an attempt that is not answered gets company: a server that is gone does not say so, and the next
#: attempt may meet the one that took its place.
_COMPANY_AFTER: Final = 0.5


class Connector:
    """Opens connections.

    Args:
        url: where to.
        settings: sent to the server; what the URL says comes before them.
        attributes: which servers are good enough: those that take writes, or also one that is set to read-only.
        command_timeout: seconds after which the driver gives a statement up; None for never.
    """

    def __init__(
        self,
        url: PostgresUrl,
        *,
        settings: Mapping[str, str],
        attributes: Literal["read-write", "primary"],
        command_timeout: float | None,
    ) -> None:
        self._hosts: tuple[tuple[str, int] | None, ...] = url.hosts or (None,)
        self._timeout = url.connect_timeout or CONNECT_TIMEOUT
        self._first = 0
        self._arguments: dict[str, Any] = {
            "dsn": url.tls_url(),
            **connect_arguments(url),
            "server_settings": {**settings, **url.settings},
            "target_session_attrs": attributes,
            "command_timeout": command_timeout,
        }
        if url.tls.get("sslrootcert") == "system":  # the machine's certificates, as libpq has it; always verify-full
            self._arguments |= {"dsn": "postgresql:///", "ssl": ssl.create_default_context()}

    async def connect(self) -> asyncpg.Connection:
        """Open a connection to the first server that is good enough.

        The servers are tried in turn. One that does not answer within half a second is not waited for alone: the next one,
        or the same one again, is tried beside it.

        Raises:
            ConnectError: there was none. Its cause is the last failure.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._timeout
        running: dict[asyncio.Task[asyncpg.Connection], int] = {}
        failure: BaseException | None = None
        tried = 0
        try:
            while True:
                place = (self._first + tried) % len(self._hosts)
                running[loop.create_task(self._attempt(place))] = place
                tried += 1
                wait = min(_COMPANY_AFTER, max(ends - loop.time(), 0))
                done, _ = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is None:
                        self._first = running.pop(task)
                        return task.result()
                    del running[task]
                    failure = task.exception()
                if loop.time() >= ends:
                    raise ConnectError(_said(failure) if failure else "the database does not answer") from failure
                if tried >= len(self._hosts):
                    if not running:
                        raise ConnectError(_said(failure)) from failure
                    if done:  # a server that says no is asked again, but not at once
                        await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in running:
                task.cancel()
            for connected in await asyncio.gather(*running, return_exceptions=True):
                if isinstance(connected, asyncpg.Connection):
                    connected.terminate()

    async def _attempt(self, place: int) -> asyncpg.Connection:
        where = self._hosts[place]
        arguments = self._arguments if where is None else {**self._arguments, "host": where[0], "port": where[1]}
        # The caller ends it; asyncpg's own bound is only there because it has one.
        return await asyncpg.connect(**arguments, timeout=self._timeout)


def _said(failure: BaseException | None) -> str:
    """What a failure says, in one line."""
    text = " ".join(str(failure).split()) if failure is not None else ""
    return text or type(failure).__name__


@dataclass(frozen=True, slots=True)
class Session:
    """What a connection leads to.

    Attributes:
        started_at: as :func:`started_at` has it.
        backend: id of the server's process.
        pooled: whether a pooler is in between, which gives process ids of its own to its clients.
    """

    started_at: datetime
    backend: int
    pooled: bool


async def set_up(connection: asyncpg.Connection, settings: Mapping[str, str]) -> Session:
    """Set what the session has, when it is not known to poolers and would be refused while connecting (PgBouncer)."""
    sets = [f"pg_catalog.set_config(${2 * n + 1}, ${2 * n + 2}, false)" for n in range(len(settings))]
    columns = ["pg_catalog.pg_postmaster_start_time()", "pg_catalog.pg_backend_pid()", *sets]
    values = [part for item in settings.items() for part in item]
    row = await connection.fetchrow(f"SELECT {', '.join(columns)}", *values)
    return Session(started_at=row[0], backend=row[1], pooled=row[1] != connection.get_server_pid())


async def started_at(connection: asyncpg.Connection) -> datetime:
    """When the server was started: another one at the same address was started at another time."""
    started: datetime = await connection.fetchval("SELECT pg_catalog.pg_postmaster_start_time()")
    return started
