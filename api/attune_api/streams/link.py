"""The connection to NATS, made anew for as long as the program runs."""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any, Final

import nats
import nats.errors
import structlog
from nats.aio.client import Client

from attune_api import backoff
from attune_api.files import WatchedFile
from attune_api.metrics import Metrics
from attune_api.tls import trust

log = structlog.get_logger(__name__)

#: Seconds between looks at the credentials file.
_CREDENTIALS_PERIOD: Final = 5.0


class NatsLink:
    """One connection that everything here shares.

    nats-py reconnects by itself, but not always: when its user JWT expires it closes for good. So the connection is
    replaced whenever it is found closed, and made to reconnect (which reads the file again) when the credentials change.

    Args:
        url: server or servers, comma-separated.
        creds_file: user JWT and seed, or None.
        ca_file: certificates that the server's is checked against, or None for the system's.
        metrics: for the gauge that says whether there is a connection.
    """

    def __init__(self, *, url: str, creds_file: Path | None, ca_file: Path | None = None, metrics: Metrics) -> None:
        self._servers = [server.strip() for server in url.split(",") if server.strip()]
        self._creds_file = creds_file
        self._ca_file = ca_file
        self._metrics = metrics
        self._client: Client | None = None
        self._ready = asyncio.Event()
        self._closed = asyncio.Event()
        self._said: str | None = None
        self._tried = asyncio.Event()
        self.reconnects = 0  #: times that the connection was made anew; whoever subscribed may have missed something

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._client is not None and self._client.is_connected

    async def tried(self) -> bool:
        """Whether there is a connection now; waits for what the first attempt comes to."""
        await self._tried.wait()
        return self.connected

    async def client(self) -> Client:
        """The connection; waits until there is one."""
        while True:
            await self._ready.wait()
            if self._client is not None and self._client.is_connected:
                return self._client
            self._ready.clear()

    async def run(self) -> None:
        """Keep a connection until cancelled, then close it."""
        attempt = 0
        try:
            while True:
                try:
                    await self._connect()
                except (OSError, nats.errors.Error, TimeoutError, ValueError) as error:
                    self._say("nats_unreachable", error=f"{type(error).__name__}: {error}")
                    await asyncio.sleep(backoff.delay(attempt, random=random.random))
                    attempt += 1
                    continue
                attempt = 0
                await self._watch()
                log.warning("nats_connection_closed")
        finally:
            self._ready.clear()
            self._metrics.nats_connected.set(0)
            if self._client is not None and not self._client.is_closed:
                with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                    async with asyncio.timeout(2):
                        await self._client.close()

    async def _connect(self) -> None:
        if self._creds_file is not None:
            self._creds_file.stat()  # a clear error here instead of an odd one inside nats-py
        options: dict[str, Any] = {"user_credentials": str(self._creds_file)} if self._creds_file else {}
        if (context := trust(self._ca_file)) is not None:
            options["tls"] = context
        self._closed.clear()
        self._client = await nats.connect(
            self._servers,
            name="attune-api",
            connect_timeout=5,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.5,
            ping_interval=10,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_connected,
            closed_cb=self._on_closed,
            **options,
        )
        await self._on_connected()

    async def _watch(self) -> None:
        """Return when the connection is closed for good."""
        file = WatchedFile(self._creds_file) if self._creds_file else None
        version = self._version(file)
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CREDENTIALS_PERIOD):
                    await self._closed.wait()
            newer = self._version(file)
            if newer != version and not self._closed.is_set() and self._client is not None:
                version = newer
                log.info("nats_credentials_changed")
                with contextlib.suppress(nats.errors.Error, OSError):
                    await self._client.force_reconnect()

    @staticmethod
    def _version(file: WatchedFile | None) -> int:
        if file is None:
            return 0
        with contextlib.suppress(OSError):
            file.read()
        return file.version

    async def _on_connected(self) -> None:
        self.reconnects += 1
        self._metrics.nats_connected.set(1)
        self._ready.set()
        self._say("nats_connected")

    async def _on_disconnected(self) -> None:
        self._ready.clear()
        self._metrics.nats_connected.set(0)
        self._say("nats_disconnected")

    async def _on_closed(self) -> None:
        self._ready.clear()
        self._metrics.nats_connected.set(0)
        self._closed.set()

    async def _on_error(self, error: Exception) -> None:
        # Comes once for every attempt to reconnect; said once.
        if isinstance(error, OSError | TimeoutError | nats.errors.NoServersError):
            self._say("nats_unreachable", error=f"{type(error).__name__}: {error}")
        else:
            log.warning("nats_error", error=f"{type(error).__name__}: {error}")

    def _say(self, event: str, **fields: Any) -> None:
        self._tried.set()
        if event != self._said:
            self._said = event
            log.info(event, **fields) if event == "nats_connected" else log.warning(event, **fields)
