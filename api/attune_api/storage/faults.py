"""What an error of a database means: whether it is away, a connection is dead, or a row is refused."""

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

#: What a database can do to a background task, and what is therefore waited out.
OUTAGES: Final = (SQLAlchemyError, OSError, TimeoutError)

# PostgreSQL manual, appendix A. asyncpg's errors have no class for these in SQLAlchemy, but a code.
_READ_ONLY: Final = "25006"  # read_only_sql_transaction: of a standby, or of a server that was set so
#: connection_exception, insufficient_resources (disk, memory, connections), operator intervention other than a query that
#: was cancelled (57014), system_error.
_AWAY: Final = ("08", "53", "57P", "58")
#: Those after which other connections are no better.
_DEAD: Final = ("08", "57P")


class ConnectError(OSError):
    """No connection could be opened; the cause is what the last server that was tried said."""


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
