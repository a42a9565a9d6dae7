"""Exit codes, and errors that are one clear sentence."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit statuses that scripts can rely on (docs/command-line.md)."""

    OK = 0
    PROBLEM = 1
    """It worked and found a problem: lint found a mistake, or status found something wrong."""
    USAGE = 2
    """The command line itself is wrong, or a file that it names cannot be read."""
    NOT_FOUND = 3
    """There is no such Rule, Sensor, ..."""
    UNREACHABLE = 4
    """The cluster or the API does not answer, or there is none to ask."""
    REFUSED = 5
    """Not signed in, or not allowed."""
    REJECTED = 6
    """The request was understood and refused: a conflict, or wrong content."""
    INTERNAL = 70
    """A bug in the command line (``EX_SOFTWARE`` of sysexits.h)."""
    INTERRUPTED = 130
    """Ctrl-C, as shells count it."""


class CliError(Exception):
    """Ends the command with a sentence on stderr.

    Args:
        message: what is wrong, where, and what to do.
        code: the exit status.
    """

    code = ExitCode.PROBLEM

    def __init__(self, message: str, *, code: ExitCode | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class UsageError(CliError):
    """The command line is wrong."""

    code = ExitCode.USAGE


class NotFoundError(CliError):
    """The object does not exist."""

    code = ExitCode.NOT_FOUND


class UnreachableError(CliError):
    """No answer."""

    code = ExitCode.UNREACHABLE


class RefusedError(CliError):
    """The caller is not signed in, or not allowed."""

    code = ExitCode.REFUSED


class RejectedError(CliError):
    """The request was understood and refused."""

    code = ExitCode.REJECTED
