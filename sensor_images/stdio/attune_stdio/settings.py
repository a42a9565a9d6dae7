"""The supervisor's own settings: its command line, and the variables ``ATTUNE_STDIO_*``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from attune_sensor import SettingsError
from attune_stdio.output import OutputOptions

_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)

MODE: Final = "ATTUNE_STDIO_MODE"
ON_EXIT: Final = "ATTUNE_STDIO_ON_EXIT"
LINES_PER_SECOND: Final = "ATTUNE_STDIO_LINES_PER_SECOND"
STOP_SECONDS: Final = "ATTUNE_STDIO_STOP_SECONDS"
MAX_RESTART_SECONDS: Final = "ATTUNE_STDIO_MAX_RESTART_SECONDS"
OUTPUT: Final = "ATTUNE_STDIO_OUTPUT"
SCRIPTS_DIR: Final = "ATTUNE_SCRIPTS_DIR"


#: What programs print unless the Sensor says otherwise.
_EVENTS: Final = OutputOptions()


class Mode(StrEnum):
    """How many processes there are."""

    PER_RULE = "perRule"  #: one for each active rule
    PER_SENSOR = "perSensor"  #: one for all of them


class OnExit(StrEnum):
    """What it means that the program of a rule ended with status 0."""

    RESTART = "Restart"  #: it is started again
    COMPLETE = "Complete"  #: the rule is completed


@dataclass(frozen=True, slots=True, kw_only=True)
class StdioSettings:
    """The supervisor's own settings.

    Attributes:
        command: the program and its arguments.
        mode: one process for each rule, or one for all.
        on_exit: what an end with status 0 means, with :attr:`Mode.PER_RULE`.
        lines_per_second: lines that are taken from each process; it waits when it is quicker.
        stop_seconds: from SIGTERM to SIGKILL.
        max_restart_seconds: the longest wait before a program that failed is started again.
        output: how the program's output is read.
        scripts_dir: where ``spec.scripts`` are; programs run there. None when there are none.
    """

    command: tuple[str, ...]
    mode: Mode = Mode.PER_RULE
    on_exit: OnExit = OnExit.RESTART
    lines_per_second: float = 1000.0
    stop_seconds: float = 5.0
    max_restart_seconds: float = 60.0
    output: OutputOptions = _EVENTS
    scripts_dir: Path | None = None

    @classmethod
    def read(cls, arguments: Sequence[str], variables: Mapping[str, str]) -> "StdioSettings":
        """Read the settings.

        Args:
            arguments: the command line after the supervisor's own name: the command, after ``--`` or not.
            variables: the environment.

        Raises:
            SettingsError: something is missing or wrong; the text names all of it.
        """
        problems: list[str] = []

        def value(name: str, read: Callable[[str], _T], default: _T) -> _T:
            text = variables.get(name, "").strip()
            if not text:
                return default
            try:
                return read(text)
            except ValueError as error:
                problems.append(f"{name}: {error}")
                return default

        command = tuple(arguments[1:] if arguments[:1] == ["--"] else arguments)
        if not command or not command[0]:
            problems.append("no command; write it after --, like `attune-stdio -- ./watch.sh`")
        mode = value(MODE, lambda text: _one_of(Mode, text), Mode.PER_RULE)
        on_exit = value(ON_EXIT, lambda text: _one_of(OnExit, text), OnExit.RESTART)
        rate = value(LINES_PER_SECOND, lambda text: _number(text, least=1, most=1_000_000), 1000.0)
        stop = value(STOP_SECONDS, lambda text: _number(text, least=0, most=600), 5.0)
        restart = value(MAX_RESTART_SECONDS, lambda text: _number(text, least=1, most=3600), 60.0)
        output = value(OUTPUT, _output, _EVENTS)
        scripts = value(SCRIPTS_DIR, _directory, None)
        if problems:
            raise SettingsError("; ".join(problems))
        return cls(
            command=command,
            mode=mode,
            on_exit=on_exit,
            lines_per_second=rate,
            stop_seconds=stop,
            max_restart_seconds=restart,
            output=output,
            scripts_dir=scripts,
        )


def _one_of(kind: type[_E], text: str) -> _E:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"unknown value {text!r}; expected one of: {', '.join(kind)}") from None


def _number(text: str, *, least: float, most: float) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not least <= found <= most:
        raise ValueError(f"{text!r} is not a number from {least:g} to {most:g}")
    return found


def _output(text: str) -> OutputOptions:
    try:
        options = msgspec.json.decode(text, type=OutputOptions)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    if (problem := options.problem()) is not None:
        raise ValueError(problem)
    return options


def _directory(text: str) -> Path | None:
    path = Path(text)
    if not path.is_dir():
        raise ValueError(f"there is no directory {text}")
    return path.absolute()
