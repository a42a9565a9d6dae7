"""What an error of a database means: whether it is away, a connection is dead, or a row is refused, and what to do."""

import re
import socket
import ssl
from collections.abc import Mapping
from typing import Final

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from attune_kit.postgres.connect import ConnectError

#: What a database can do to a background task, and what is therefore waited out.
OUTAGES: Final = (SQLAlchemyError, OSError, TimeoutError)

# PostgreSQL manual, appendix A. asyncpg's errors have no class for these in SQLAlchemy, but a code.
_READ_ONLY: Final = "25006"  # read_only_sql_transaction: of a standby, or of a server that was set so
#: connection_exception, insufficient_resources (disk, memory, connections), operator intervention other than a query that
#: was cancelled (57014), system_error.
_AWAY: Final = ("08", "53", "57P", "58")
#: Those after which other connections are no better.
_DEAD: Final = ("08", "57P")


def sqlstate(error: BaseException) -> str:
    """The code of an error that PostgreSQL or its driver gave, also as the cause of a :class:`ConnectError`; or nothing."""
    if isinstance(error, ConnectError) and error.__cause__ is not None:
        error = error.__cause__
    original = error.orig if isinstance(error, DBAPIError) else error
    return getattr(original, "sqlstate", None) or ""


def is_outage(error: Exception) -> bool:
    """Whether an error is about the database as such (away, locked, full, read-only, slow) and may be gone on the next try."""
    if isinstance(error, DBAPIError):
        if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated:
            return True
        code = sqlstate(error)
        return code == _READ_ONLY or code.startswith(_AWAY)
    return isinstance(error, OSError | TimeoutError | PoolTimeout)


def is_dead(error: Exception) -> bool:
    """Whether the connection that an error came from is of no more use, and others that are as old probably are not either.

    A server that turned read-only is one of them: writes go to where its primary is now.
    """
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or is_about_the_end(sqlstate(error))
    return isinstance(error, ConnectionError)


def is_about_the_end(code: str) -> bool:
    """Whether a SQLSTATE says that a server has ended, is about to, or is the primary no more."""
    return code == _READ_ONLY or code.startswith(_DEAD)


def is_about_a_row(error: Exception) -> bool:
    """Whether the database, or its driver, refused a value; the same row would be refused again: classes 22 and 23."""
    if isinstance(error, DBAPIError):
        return isinstance(error, DataError | IntegrityError) or sqlstate(error)[:2] in ("22", "23")
    return isinstance(error, StatementError)  # a value that could not be turned into a parameter


#: What to do, by SQLSTATE or the beginning of it.
_BY_CODE: Final[Mapping[str, str]] = {
    "28": "check the user and the password in the database's URL, and what the server's pg_hba.conf allows",
    "3D000": "create the database, or correct its name in the URL",
    "42501": "give the user the right (the owner of a database has it; others need GRANT USAGE, CREATE ON SCHEMA public)",
    _READ_ONLY: "the server takes no writes: look why it is read-only, or whether the URL leads to a standby",
    "53100": "make room on the server's disk",
    "53300": "raise the server's or the user's limit of connections, or run fewer replicas (24 connections each at most)",
    "57P": "the server starts or stops; wait for it",
}
_NO_PRIMARY: Final = "none of the servers takes writes"
#: By what the text says, where there is no code: asyncpg's own errors, TLS, SQLite.
_BY_TEXT: Final[Mapping[str, str]] = {
    _NO_PRIMARY: "name the primary in the database's URL, or all hosts",
    "rejected SSL upgrade": "the server has no TLS: leave sslmode out of the URL, or set TLS up",
    "root certificate": "name a file with the server's CA by sslrootcert in the URL, and mount it (api.extraVolumes)",
    "unable to open database file": "the folder must exist and be writable: look at the volume and its owner",
    "readonly database": "the file and its folder must be writable for the user that the API runs as",
    "disk is full": "make room on the volume",
    "disk I/O error": "look at the volume: it may be full or damaged",
    "is not a database": "the file is damaged, or no SQLite file: restore a backup",
    "malformed": "the file is damaged: restore a backup",
}


def explain(error: BaseException) -> str:
    """What went wrong and what to do, in one line that holds no secret."""
    cause = error.__cause__ if isinstance(error, ConnectError) and error.__cause__ is not None else error
    original = cause.orig if isinstance(cause, DBAPIError) and cause.orig is not None else cause
    # SQLAlchemy writes the driver's class before what the driver said.
    said = re.sub(r"^<class '[^']*'>: ", "", " ".join(str(original).split()))[:300] or type(original).__name__
    if "match the target attribute" in said:
        said = _NO_PRIMARY
    advice = _advice(sqlstate(error), said, original)
    return f"{said.rstrip('.')}; {advice}" if advice else said


def _advice(code: str, said: str, error: BaseException) -> str:
    for beginning, advice in _BY_CODE.items():
        if code.startswith(beginning):
            return advice
    if isinstance(error, ssl.SSLCertVerificationError):
        return "name a file with the server's CA by sslrootcert in the URL, and the server as its certificate does"
    if isinstance(error, socket.gaierror):
        return "correct the host in the database's URL, or look at the cluster's DNS"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there: correct host and port in the database's URL, or start the server"
    for part, advice in _BY_TEXT.items():
        if part in said:
            return advice
    if isinstance(error, TimeoutError):
        return "the database did not answer in time: look whether it runs, and whether a network policy is in between"
    return ""
