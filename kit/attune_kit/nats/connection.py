"""A connection to NATS that lives once, from connect to close.

nats-py can reconnect by itself. It then keeps subscriptions whose consumers may be gone, and closes for good when its
user JWT has expired. Here a lost connection is over, and everything that was made on it ends with it: the caller opens
another connection, which reads the credentials again, and takes new snapshots. So there is one way into a good state,
the same after a start, a network fault, a killed server and an expired credential.
:class:`attune_kit.nats.connector.NatsConnector` opens one after the other.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import nats.errors
import structlog

from attune_kit.nats.client import NatsClient, close
from attune_kit.nats.credentials import NatsCredentials, parse_nats_credentials
from attune_kit.tls import TlsError, client_context
from attune_kit.watched_file import WatchedFile, WatchedFileError

_log = structlog.stdlib.get_logger(__name__)

#: Pings without an answer after which a connection counts as lost.
_OUTSTANDING_PINGS: Final = 2


class NatsUnavailableError(Exception):
    """NATS cannot be used now. The text is a sentence that says why, fit for a condition's message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsEndpoint:
    """Where NATS is and how to connect to it. Times are seconds.

    Attributes:
        url: one server's URL, or several separated by commas.
        name: the client's name in the server's monitoring.
        username: who the client is, where the server knows passwords.
        password: the password; without a user name it is a token.
        creds_file: a user JWT and its seed, read for each connection; None where the server asks for none.
        ca_file: certificates (PEM) that the server's certificate is checked against; None for the system's.
        system_ca: trust the system's certificates in addition to those in ``ca_file``.
        inbox_prefix: prefix of the subjects under which replies and deliveries arrive.
        ping_interval: time between pings; after two without an answer the connection counts as lost.
    """

    url: str
    name: str = "attune"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    creds_file: Path | None = None
    ca_file: Path | None = None
    system_ca: bool = False
    inbox_prefix: str = "_INBOX"
    connect_timeout: float = 5.0
    request_timeout: float = 5.0
    ping_interval: float = 5.0

    @property
    def servers(self) -> list[str]:
        """The servers' URLs."""
        return [part.strip() for part in self.url.split(",") if part.strip()]

    @property
    def shown(self) -> str:
        """The URL as it may appear in logs and messages: without user and password."""
        return ",".join(_without_userinfo(server) for server in self.servers)

    def credentials(self) -> WatchedFile[NatsCredentials] | None:
        """The credentials file, to be watched."""
        return None if self.creds_file is None else WatchedFile(self.creds_file, parse_nats_credentials)


def _without_userinfo(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


class NatsConnection:
    """An open connection.

    Attributes:
        endpoint: where it leads.
        client: nats-py's client.
        jetstream: nats-py's JetStream context.
        error: the last error that nats-py reported; empty when there was none.
        ended: is done when the connection is over, whichever side ended it.
    """

    def __init__(self, *, endpoint: NatsEndpoint, client: NatsClient) -> None:
        self.endpoint = endpoint
        self.client = client
        self.error = ""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.jetstream: Any = client.jetstream(timeout=endpoint.request_timeout)

    def jetstream_at(self, api: str) -> Any:
        """nats-py's JetStream context for streams that are reached by another prefix of the API."""
        return self.client.jetstream(prefix=api, timeout=self.endpoint.request_timeout)

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return self.ended.done()

    @property
    def reason(self) -> str:
        """Why the connection is over, as a sentence."""
        return f"The connection to NATS at {self.endpoint.shown} was lost{f' ({self.error})' if self.error else ''}."

    async def wait_closed(self) -> None:
        """Return when the connection is over."""
        await asyncio.shield(self.ended)

    def abandon(self, error: str = "") -> None:
        """Declare the connection over. Its owner closes it.

        Args:
            error: why, where nats-py does not know it.
        """
        self.error = error or self.error
        if not self.ended.done():
            self.ended.set_result(None)


@contextlib.asynccontextmanager
async def open_connection(
    endpoint: NatsEndpoint, *, credentials: WatchedFile[NatsCredentials] | None = None
) -> AsyncIterator[NatsConnection]:
    """Connect once, and close at the end of the block.

    Args:
        endpoint: where to connect.
        credentials: the watched file of ``endpoint``, whose last valid content is used while the file cannot be read.
            Unless given, the file must be valid now.

    Raises:
        NatsUnavailableError: no server answered, a server refused the client, or a file of ``endpoint`` is not valid.
    """
    client = NatsClient()
    connection = NatsConnection(endpoint=endpoint, client=client)
    options = _options(endpoint, credentials or endpoint.credentials())
    opened = False

    async def on_error(error: Exception) -> None:
        connection.error = str(error) or type(error).__name__
        if opened:
            _log.warning("nats_error", error=connection.error, server=endpoint.shown)
        if isinstance(error, nats.errors.SlowConsumerError):
            connection.abandon()  # messages were dropped: what follows is not what the stream holds

    async def on_closed() -> None:
        connection.abandon()

    try:
        async with asyncio.timeout(endpoint.connect_timeout + 1):
            await client.connect(
                servers=endpoint.servers,
                name=endpoint.name,
                inbox_prefix=endpoint.inbox_prefix,
                allow_reconnect=False,
                # Before the first connection nats-py tries its servers repeatedly all the same; once is enough here.
                max_reconnect_attempts=1,
                reconnect_time_wait=0.05,
                connect_timeout=endpoint.connect_timeout,
                ping_interval=endpoint.ping_interval,
                max_outstanding_pings=_OUTSTANDING_PINGS,
                error_cb=on_error,
                closed_cb=on_closed,
                **options,
            )
    except (OSError, nats.errors.Error, TimeoutError, ValueError) as error:
        await close(client)
        why = connection.error or str(error) or type(error).__name__
        raise NatsUnavailableError(f"NATS at {endpoint.shown} cannot be reached: {why}.") from error
    except BaseException:
        await close(client)  # cancelled half-way: the socket may be open already
        raise
    opened = True
    try:
        yield connection
    finally:
        connection.abandon()
        await close(client)


def _options(endpoint: NatsEndpoint, credentials: WatchedFile[NatsCredentials] | None) -> dict[str, Any]:
    """Options of nats-py for TLS and authentication.

    Raises:
        NatsUnavailableError: a file is not valid.
    """
    options: dict[str, Any] = {}
    if endpoint.username is not None:
        options |= {"user": endpoint.username, "password": endpoint.password}
    elif endpoint.password is not None:
        options["token"] = endpoint.password
    try:
        context: ssl.SSLContext | None = client_context(endpoint.ca_file, system=endpoint.system_ca)
        if context is not None:
            options["tls"] = context
        if credentials is not None:
            found = credentials.latest()
            options |= {"user_jwt_cb": lambda: bytearray(found.jwt), "signature_cb": found.sign}
    except (TlsError, WatchedFileError) as error:
        raise NatsUnavailableError(f"A connection to NATS cannot be set up: {error}.") from error
    return options


def describe(error: BaseException) -> str:
    """A NATS error as a sentence for people."""
    import nats.js.errors

    if isinstance(error, nats.js.errors.ServiceUnavailableError | nats.errors.NoRespondersError):
        return "JetStream is not available on the NATS server (is it enabled, and does the cluster have a leader?)."
    if isinstance(error, nats.js.errors.APIError):
        return f"JetStream refused: {error.description or error}."
    if isinstance(error, TimeoutError):
        return "NATS did not answer in time."
    text = str(error) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
