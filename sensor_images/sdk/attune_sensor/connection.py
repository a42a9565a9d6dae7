"""The connection to NATS, kept for as long as the sensor runs.

nats-py reconnects by itself when the network fails, but closes for good when the server ends the connection because the
user's JWT expired; then a new client is built. Renewed credentials are taken up before that, as soon as their file changes.
"""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.client import Server as NatsServerEntry

from attune_kit.nats.headers import read_headers
from attune_sensor.backoff import Backoff
from attune_sensor.credentials import CredentialFile, NatsCredentials
from attune_sensor.errors import CredentialsError
from attune_sensor.metrics import Metrics
from attune_sensor.outage import Outage
from attune_sensor.tls import client_context

_RETRY: Final = Backoff(initial=0.1, maximum=2.0)
#: How often the credentials' file is looked at, seconds.
_CHECK_INTERVAL: Final = 1.0
#: A client that was not connected for so long (seconds) is replaced, in case its own reconnecting died.
_GIVE_UP_AFTER: Final = 30.0
_CONNECT_TIMEOUT: Final = 5
# A connection whose other end vanished without a word is found out after three of these (seconds).
_PING_INTERVAL: Final = 10


class _Client(Client):  # type: ignore[misc]
    """nats-py's client, quicker at the headers of rules."""

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        found = read_headers(raw)
        return Client._parse_header_lines(raw) if found is None else found


class NatsConnection:
    """One connection to NATS, rebuilt whenever it is lost.

    Args:
        url: one server's address, or several with commas between them.
        name: shown in the server's monitoring.
        inbox_prefix: prefix of the subjects under which replies and deliveries are received.
        credentials: file with a NATS user JWT and its seed; None where the server asks for none.
        ca_file: certificates to trust besides the system's; None when there are none.
        metrics: where the state is counted.
        log: a structlog logger.
        chance: random numbers in [0, 1), for jitter.
    """

    def __init__(
        self,
        *,
        url: str,
        name: str,
        inbox_prefix: str,
        credentials: CredentialFile[NatsCredentials] | None,
        ca_file: Path | None = None,
        metrics: Metrics,
        log: Any,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._servers = [part.strip() for part in url.split(",")]
        self._name = name
        self._inbox_prefix = inbox_prefix
        self._credentials = credentials
        self._ca_file = ca_file
        self._metrics = metrics
        self._chance = chance
        self._log = log
        self._outage = Outage(log=log, name="nats")
        self._client: Any = None
        self._connected = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._served: NatsCredentials | None = None

    def on_connected(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called each time the connection is established, the first time and again."""
        self._listeners.append(listener)

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connected.is_set()

    @property
    def problem(self) -> str | None:
        """Why there is no connection now; None while there is one."""
        return None if self.connected else self._outage.problem or "not connected yet"

    async def wait_connected(self) -> Any:
        """Wait for a connection; returns the nats-py client, good until the connection is lost."""
        while True:
            await self._connected.wait()
            if self._client is not None:
                return self._client

    async def reconnect(self) -> None:
        """Give the connection up and make a new one: it looks alive and does not work."""
        if self._client is not None:
            await self._client.force_reconnect()

    async def run(self) -> None:
        """Keep the connection until cancelled."""
        attempt = 0
        while True:
            try:
                options = self._authentication()
                if await self._keep(options):
                    attempt = 0
            except (OSError, nats.errors.Error, TimeoutError, ValueError) as error:
                self._failed(error)
            attempt += 1
            await asyncio.sleep(_RETRY.delay(attempt=attempt, chance=self._chance()))

    async def _keep(self, options: dict[str, Any]) -> bool:
        """Connect, and return when that client must be replaced."""
        closed = asyncio.Event()
        client = _Client()
        try:
            await self._connect(client, closed, options)
            self._established(client)
            await self._watch(client, closed)
        finally:
            closed.set()
            self._lost()
            self._client = None
            await _close(client, self._log)
        return True

    def _authentication(self) -> dict[str, Any]:
        """Options for nats-py.

        Raises:
            CredentialsError: the file cannot be used. Better now, than in the middle of a handshake.
        """
        if self._credentials is None:
            return {}
        self._credentials.latest()
        return {"user_jwt_cb": self._user_jwt, "signature_cb": self._sign}

    async def _connect(self, client: Any, closed: asyncio.Event, options: dict[str, Any]) -> None:
        async def on_error(error: Exception) -> None:
            # Permission violations come here, and failed attempts to reconnect.
            if client.is_connected:
                self._log.warning("nats_error", error=_text(error))
            else:
                self._failed(error)

        async def on_disconnected() -> None:
            if closed.is_set():
                return  # by our own will
            self._lost()
            self._failed(nats.errors.Error("the connection was lost"))

        async def on_reconnected() -> None:
            self._established(client)

        async def on_closed() -> None:
            closed.set()

        await client.connect(
            servers=self._servers,
            name=self._name,
            error_cb=on_error,
            disconnected_cb=on_disconnected,
            reconnected_cb=on_reconnected,
            closed_cb=on_closed,
            reconnect_to_server_handler=self._next_server,
            connect_timeout=_CONNECT_TIMEOUT,
            ping_interval=_PING_INTERVAL,
            inbox_prefix=self._inbox_prefix,
            tls=client_context(self._ca_file),
            # The first connection is retried by run(), with its backoff; nats-py would retry without one.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            **options,
        )
        # From now on nats-py goes on trying for as long as it takes.
        client.options["max_reconnect_attempts"] = -1

    async def _watch(self, client: Any, closed: asyncio.Event) -> None:
        """Return when the client must be replaced."""
        loop = asyncio.get_running_loop()
        last_connected = loop.time()
        while True:
            try:
                async with asyncio.timeout(_CHECK_INTERVAL):
                    await closed.wait()
            except TimeoutError:
                pass
            if closed.is_set() or client.is_closed:
                self._failed(nats.errors.Error("the server ended the connection"))
                return
            if client.is_connected:
                last_connected = loop.time()
            elif loop.time() - last_connected > _GIVE_UP_AFTER:
                return
            if self._renewed() and client.is_connected:
                self._log.info("nats_credentials_renewed")
                await client.force_reconnect()

    def _renewed(self) -> bool:
        if self._credentials is None:
            return False
        try:
            return self._credentials.read() != self._served
        except CredentialsError:
            return False  # the connection still works with the old ones; a missing file is said when it is needed

    def _sign(self, nonce: str) -> bytes:
        """Sign the server's nonce. nats-py asks for the JWT right after, which must be the one that belongs to the key."""
        if self._credentials is None:
            raise CredentialsError("the NATS server asks for credentials, and none were given")
        self._served = self._credentials.latest()
        return self._served.sign(nonce)

    def _user_jwt(self) -> bytearray:
        if self._served is None:
            raise CredentialsError("the NATS server asks for a JWT, and sent nothing to sign")
        return bytearray(self._served.jwt)

    def _next_server(self, servers: list[Any], _info: dict[str, Any]) -> tuple[NatsServerEntry | None, float]:
        """Where to reconnect to, and after how many seconds (nats-py's ``reconnect_to_server_handler``)."""
        server = min(servers, key=lambda entry: entry.reconnects)
        if server.reconnects == 0:
            return server, 0.0
        return server, _RETRY.delay(attempt=server.reconnects, chance=self._chance())

    def _established(self, client: Any) -> None:
        self._client = client
        self._connected.set()
        self._metrics.nats_connected.set(1)
        self._outage.recovered()
        for listener in self._listeners:
            listener()

    def _lost(self) -> None:
        self._connected.clear()
        self._metrics.nats_connected.set(0)

    def _failed(self, error: Exception) -> None:
        self._outage.failed(type(error).__name__, _text(error), servers=[_without_password(s) for s in self._servers])


async def _close(client: Any, log: Any) -> None:
    try:
        async with asyncio.timeout(5):
            await client.close()
    except Exception:
        # It is given up anyway, and nats-py is not made for closing what never was connected.
        log.debug("nats_close_failed", exc_info=True)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _without_password(url: str) -> str:
    scheme, separator, rest = url.rpartition("@")
    return f"{scheme.partition('//')[0]}//***@{rest}" if separator else url
