"""Connections to PostgreSQL, with errors in words for the rules' authors."""

import contextlib
from collections.abc import Iterator
from typing import Final

import asyncpg

from attune_kit.postgres.connect import ConnectError, Connector
from attune_kit.postgres.url import PostgresUrl
from attune_sensor import SourceError

#: Seconds that a statement may take.
ANSWERS: Final = 12.0
#: Seconds for saying goodbye.
_CLOSES: Final = 2.0
#: The driver is in no state to do anything (InternalClientError) between the server's last words and its end.
_FAULTS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


async def connect(url: PostgresUrl, *, name: str, where: str) -> asyncpg.Connection:
    """Open a connection to the first server that takes writes: the others are standbys, or no longer the primary.

    Args:
        url: where to, with secrets.
        name: what the server shows of the connection, unless the URL says it.
        where: the servers, for messages.

    Raises:
        SourceError: there is none.
    """
    settings = {"application_name": name, "timezone": "UTC", "datestyle": "ISO"}  # ids are text
    connector = Connector(url, settings=settings, attributes="read-write", command_timeout=ANSWERS)
    with told(where):
        return await connector.connect()


async def disconnect(connection: asyncpg.Connection | None) -> None:
    """Close a connection. What it had locked is free when this returns, if the server answers."""
    if connection is None or connection.is_closed():
        return
    try:
        with contextlib.suppress(*_FAULTS):
            await connection.execute("ROLLBACK", timeout=_CLOSES)
            await connection.close(timeout=_CLOSES)
    finally:  # also when the caller is cancelled meanwhile
        connection.terminate()


@contextlib.contextmanager
def told(where: str) -> Iterator[None]:
    """Say what went wrong as a :class:`SourceError`.

    Args:
        where: the servers.
    """
    try:
        yield
    except _FAULTS as error:
        raise SourceError(f"{where} {_said(error)}") from error


def _said(error: BaseException) -> str:
    if isinstance(error, ConnectError) and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return f"does not accept the credentials: {text}"
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return f"does not allow it: {text}"
    if isinstance(error, TimeoutError):
        return "does not answer"
    if isinstance(error, asyncpg.InternalClientError):
        return "has ended the connection"
    if isinstance(error, asyncpg.InterfaceError | ConnectionError) and "connect call failed" not in text.lower():
        return f"has ended the connection: {text}"
    return f"says: {text}"
