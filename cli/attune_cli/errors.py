"""How the command line ends: exit codes, and errors that are one clear sentence."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What scripts can rely on (docs/command-line.md)."""

    OK = 0
    PROBLEM = 1
    """It worked, and what it looked at is not in order: lint found a mistake, status found something that is wrong."""
    USAGE = 2
    """The command line itself is wrong, or a file that it names cannot be read."""
    NOT_FOUND = 3
    """There is no such Rule, Sensor, ..."""
    UNREACHABLE = 4
    """The cluster or the API gives no answer, or there is none to ask."""
    REFUSED = 5
    """Not signed in, or not allowed."""
    REJECTED = 6
    """The request was understood and refused: it conflicts with what is there, or its content is wrong."""
    INTERNAL = 70
    """A bug of the command line (``EX_SOFTWARE`` of sysexits.h)."""
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
    """What was asked for makes no sense as it stands."""

    code = ExitCode.USAGE


class NotFoundError(CliError):
    """There is no such thing."""

    code = ExitCode.NOT_FOUND


class UnreachableError(CliError):
    """Nobody answers."""

    code = ExitCode.UNREACHABLE


class RefusedError(CliError):
    """The caller is not known, or may not do it."""

    code = ExitCode.REFUSED


class RejectedError(CliError):
    """The request was understood, and not carried out."""

    code = ExitCode.REJECTED
