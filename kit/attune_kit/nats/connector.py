"""Keeps a connection to NATS for as long as a program runs: when one ends, another is opened."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any, Final

import structlog

from attune_kit.backoff import Backoff
from attune_kit.nats.connection import NatsConnection, NatsEndpoint, NatsUnavailableError, open_connection
from attune_kit.outage import Outage
from attune_kit.watched_file import WatchedFileError

_RETRY: Final = Backoff(initial=0.1, maximum=2.0)
#: Seconds between two looks at the credentials file.
_CHECK_INTERVAL: Final = 1.0


class NatsConnector:
    """Opens a connection, and another one whenever it ends or the credentials are renewed. :meth:`run` does the work.

    Args:
        endpoint: where to connect.
        on_state: called with whether there is a connection, whenever that changes.
        log: a structlog logger.
        backoff: waits between attempts to connect.
        chance: random numbers in [0, 1), for jitter.
    """

    def __init__(
        self,
        endpoint: NatsEndpoint,
        *,
        on_state: Callable[[bool], None] = lambda _: None,
        log: Any = None,
        backoff: Backoff = _RETRY,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._endpoint = endpoint
        self._credentials = endpoint.credentials()
        self._on_state = on_state
        self._log = log or structlog.stdlib.get_logger(__name__)
        self._outage = Outage(log=self._log, name="nats")
        self._backoff = backoff
        self._chance = chance
        self._connection: NatsConnection | None = None
        self._connected = asyncio.Event()
        self._attempted = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    def on_connected(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called each time a connection was opened: the first time and again."""
        self._listeners.append(listener)

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None and not self._connection.closed

    @property
    def current(self) -> NatsConnection | None:
        """The connection; None when there is none now."""
        return self._connection if self.connected else None

    @property
    def problem(self) -> str | None:
        """Why there is no connection now; None while there is one."""
        return None if self.connected else self._outage.problem or "not connected yet"

    async def wait_connected(self) -> NatsConnection:
        """The connection; waits until there is one."""
        while True:
            await self._connected.wait()
            if self._connection is not None and not self._connection.closed:
                return self._connection
            self._connected.clear()

    async def wait_attempted(self) -> bool:
        """Whether there is a connection now; waits for the outcome of the first attempt."""
        await self._attempted.wait()
        return self.connected

    def reconnect(self, reason: str) -> None:
        """Give the connection up and open another one: it looks alive and does not work.

        Args:
            reason: why, for the log.
        """
        if self._connection is not None:
            self._connection.abandon(reason)

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        retries = self._backoff.start(chance=self._chance)
        clock = asyncio.get_running_loop().time
        while True:
            began, version = clock(), self._version()
            try:
                async with open_connection(self._endpoint, credentials=self._credentials) as connection:
                    self._established(connection)
                    renewed = await self._until_over(connection, version)
            except NatsUnavailableError as error:
                self._outage.failed(type(error.__cause__ or error).__name__, str(error))
            else:
                if clock() - began > self._backoff.maximum:
                    retries.reset()
                if renewed:
                    self._log.info("nats_credentials_renewed")
                    continue
                self._outage.failed("lost", connection.reason)
            finally:
                self._lost()
            await asyncio.sleep(retries.next_delay())

    async def _until_over(self, connection: NatsConnection, version: int) -> bool:
        """Wait until the connection is over or its credentials were renewed; returns whether it was the latter."""
        while True:
            await asyncio.wait({connection.ended}, timeout=_CHECK_INTERVAL)
            if connection.closed:
                return False
            if self._version() != version:
                return True

    def _version(self) -> int:
        """How often the credentials changed.

        An unreadable file changes nothing: the connection works with the old ones.
        """
        if self._credentials is None:
            return 0
        with contextlib.suppress(WatchedFileError):
            self._credentials.read()
        return self._credentials.version

    def _established(self, connection: NatsConnection) -> None:
        self._connection = connection
        self._connected.set()
        self._attempted.set()
        self._on_state(True)
        self._outage.recovered()
        for listener in self._listeners:
            listener()

    def _lost(self) -> None:
        self._attempted.set()
        self._connected.clear()
        if self._connection is not None:
            self._connection = None
            self._on_state(False)
