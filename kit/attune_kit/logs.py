"""Logs: structured events, one JSON object per line, with the records of libraries in the same form.

What libraries do shows in our own events, so their records below WARNING are dropped.
"""

import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TextIO, get_args

import msgspec
import structlog

Style = Literal["json", "text"]
STYLES: Final[tuple[Style, ...]] = get_args(Style)

#: The style of all programs (``attune_contract.environment.LOG_FORMAT``), unless a setting of one says otherwise.
_VARIABLE: Final = "ATTUNE_LOG_FORMAT"

#: What ``text`` was called before.
_OLD_NAMES: Final = {"console": "text"}

_SHARED: Final[list[Any]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def configure_logs(
    *, level: str, style: Style = "json", stream: TextIO | None = None, handlers: Iterable[logging.Handler] = ()
) -> None:
    """Set up the logs of the whole process: structlog's events, and the records of libraries through :mod:`logging`.

    Args:
        level: least severe level that is written, in any case.
        style: ``json`` for machines, ``text`` for people.
        stream: where to; standard output unless given.
        handlers: handlers of :func:`log_handler` to use instead of ``style`` and ``stream``.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = list(handlers) or [log_handler(logging.StreamHandler(stream or sys.stdout), style=style)]
    root.setLevel(number)


def given_style(environment: Mapping[str, str] = os.environ) -> Any:
    """What the environment says of the style of all programs, as it is written there; ``json`` where it says nothing."""
    return environment.get(_VARIABLE, "").strip() or "json"


def style_named(name: object) -> object:
    """The style of a name in any case, for validators of settings: old names are understood, and others are left as they are."""
    if not isinstance(name, str):
        return name
    lower = name.strip().lower()
    return _OLD_NAMES.get(lower, lower)


def log_handler(handler: logging.Handler, *, style: Style) -> logging.Handler:
    """Have ``handler`` write in a style, and drop what libraries say below WARNING; returns it."""
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=_serialize)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=_is_terminal(handler))
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,  # without local variables: those could hold a token or a key
                renderer,
            ],
        )
    )
    handler.addFilter(_is_wanted)
    return handler


def _is_wanted(record: logging.LogRecord) -> bool:
    """Whether the record is one of structlog's events, which have a dictionary as their message, or a warning."""
    return record.levelno >= logging.WARNING or isinstance(record.msg, dict)


def _is_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and bool(handler.stream.isatty())


def _serialize(value: Any, **_options: Any) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError):
        return json.dumps(value, default=repr, skipkeys=True)
