"""A connection to NATS that lives once, from connect to close.

nats-py can reconnect by itself, and then keeps subscriptions whose consumers may be gone, and closes for good when its
user JWT has expired. Here a lost connection is over: the caller opens another one, which reads the credentials file
again and takes a new snapshot.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nats
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import RawCredentials

from attune_operator.streams.client import CancellableClient, heed_cancellation

log = structlog.get_logger(__name__)

#: Seconds without an answer to two pings after which a connection counts as lost.
_PING_INTERVAL: Final = 5
_CLOSE_TIMEOUT: Final = 2.0


class NatsUnavailable(Exception):  # noqa: N818 - read as a sentence
    """NATS cannot be used now. The text says why and is fit for a condition's message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsEndpoint:
    """Where NATS is and who we are there.

    ``url`` may name several servers, separated by commas. ``creds_file`` is read anew for each connection; without one,
    the server must take anybody. With ``ca_file`` (PEM) the connection is encrypted and the server's certificate checked
    against it. Times are seconds.
    """

    url: str
    creds_file: Path | None = None
    ca_file: Path | None = None
    name: str = "attune-operator"
    connect_timeout: float = 5.0
    request_timeout: float = 5.0

    @property
    def servers(self) -> list[str]:
        """The servers, one by one."""
        return [part.strip() for part in self.url.split(",") if part.strip()]

    @property
    def shown(self) -> str:
        """The URL as it may appear in logs and messages: without user and password."""
        return ",".join(_without_userinfo(server) for server in self.servers)


def _without_userinfo(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


class NatsConnection:
    """An open connection. ``closed`` is set when it ends, by whichever side; then ``error`` says why, if that is known."""

    def __init__(self, *, endpoint: NatsEndpoint, client: CancellableClient) -> None:
        self.endpoint = endpoint
        self.client = client
        self.closed = asyncio.Event()
        self.error: str = ""
        self.jetstream: Any = client.jetstream(timeout=endpoint.request_timeout)

    async def wait_closed(self) -> None:
        """Return when the connection has ended."""
        await self.closed.wait()

    @property
    def reason(self) -> str:
        """Why the connection ended, as a sentence."""
        return f"The connection to NATS at {self.endpoint.shown} was lost{f' ({self.error})' if self.error else ''}."


async def _credentials(path: Path) -> RawCredentials:
    try:
        text = await asyncio.to_thread(path.read_text, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NatsUnavailable(f"The NATS credentials file {path} cannot be read: {error}.") from error
    if "BEGIN NATS USER JWT" not in text or "BEGIN USER NKEY SEED" not in text:
        raise NatsUnavailable(f"The NATS credentials file {path} lacks a user JWT or its seed.")
    return RawCredentials(text)


async def _trust(path: Path) -> ssl.SSLContext:
    try:
        return await asyncio.to_thread(ssl.create_default_context, cafile=str(path))
    except (OSError, ssl.SSLError) as error:
        raise NatsUnavailable(f"The certificates in {path} cannot be read: {error}.") from error


@contextlib.asynccontextmanager
async def open_connection(endpoint: NatsEndpoint) -> AsyncIterator[NatsConnection]:
    """Connect once, and close at the end.

    Raises:
        NatsUnavailable: no server answered, or it refused us.
    """
    client = CancellableClient()
    connection = NatsConnection(endpoint=endpoint, client=client)
    opened = False

    async def on_error(error: Exception) -> None:
        # A slow consumer has lost messages: what follows is not what the stream holds.
        connection.error = str(error)
        if opened:
            log.warning("nats_error", error=str(error), server=endpoint.shown)
        if isinstance(error, nats.errors.SlowConsumerError):
            connection.closed.set()

    async def on_closed() -> None:
        connection.closed.set()

    options: dict[str, Any] = {}
    if endpoint.creds_file is not None:
        options["user_credentials"] = await _credentials(endpoint.creds_file)
    if endpoint.ca_file is not None:
        options["tls"] = await _trust(endpoint.ca_file)
    try:
        async with asyncio.timeout(endpoint.connect_timeout + 1):
            await client.connect(
                servers=endpoint.servers,
                name=endpoint.name,
                allow_reconnect=False,
                # Before the first connection nats-py goes round its servers all the same; once round is enough here.
                max_reconnect_attempts=1,
                reconnect_time_wait=0.05,
                connect_timeout=endpoint.connect_timeout,
                ping_interval=_PING_INTERVAL,
                max_outstanding_pings=2,
                error_cb=on_error,
                closed_cb=on_closed,
                **options,
            )
    except (OSError, nats.errors.Error, TimeoutError, ValueError) as error:
        await _close(client)
        why = connection.error or str(error) or type(error).__name__
        raise NatsUnavailable(f"NATS at {endpoint.shown} cannot be reached: {why}.") from error
    except BaseException:
        await _close(client)  # cancelled half-way: the socket may be open already
        raise
    opened = True
    try:
        yield connection
    finally:
        connection.closed.set()
        await _close(client)


async def _close(client: CancellableClient) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await client.close()
    heed_cancellation()  # close() swallows it too


def describe(error: BaseException) -> str:
    """A NATS error as a sentence for people."""
    if isinstance(error, nats.js.errors.ServiceUnavailableError | nats.errors.NoRespondersError):
        return "JetStream is not available on the NATS server (is it enabled, and does the cluster have a leader?)."
    if isinstance(error, nats.js.errors.APIError):
        return f"JetStream refused: {error.description or error}."
    if isinstance(error, TimeoutError):
        return "NATS did not answer in time."
    text = str(error) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
