"""Connecting to whichever of several PostgreSQL servers is the primary, soon after it became that."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final, Literal

import asyncpg

from attune_kit.postgres.url import PostgresUrl, connect_arguments

#: Seconds after which opening a connection is given up, unless the URL says otherwise.
CONNECT_TIMEOUT: Final = 5.0
#: Seconds after which an attempt that is not answered gets company: a server that is gone does not say so, and the next
#: attempt may meet the one that took its place.
_COMPANY_AFTER: Final = 0.5


class ConnectError(OSError):
    """No connection could be opened; the cause is what the last server that was tried said."""


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

    async def connect(self, *, keeps_statements: bool = False) -> asyncpg.Connection:
        """Open a connection to the first server that is good enough.

        Args:
            keeps_statements: whether the driver keeps prepared statements, which have names then. A pooler may give the
                connection another server process, which does not know them, or knows others by the same names.

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
                running[loop.create_task(self._attempt(place, keeps_statements))] = place
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

    async def _attempt(self, place: int, keeps_statements: bool) -> asyncpg.Connection:
        where = self._hosts[place]
        arguments = self._arguments if where is None else {**self._arguments, "host": where[0], "port": where[1]}
        if not keeps_statements:
            arguments = {**arguments, "statement_cache_size": 0}
        # The caller ends it; asyncpg's own bound is only there because it has one.
        return await asyncpg.connect(**arguments, timeout=self._timeout)


def _said(failure: BaseException | None) -> str:
    """What a failure says, in one line."""
    text = " ".join(str(failure).split()) if failure is not None else ""
    return text or type(failure).__name__
