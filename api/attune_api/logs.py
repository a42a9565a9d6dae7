"""Logs: one structured event per line on standard output, those of the libraries included."""

import logging
import sys
from typing import Literal, TextIO

import structlog

#: Libraries whose chatter below WARNING says nothing that our own events do not.
_QUIET = ("alembic", "aiosqlite", "httpx", "httpcore", "nats", "uvicorn.access", "sqlalchemy.engine")


def configure_logs(
    *,
    level: Literal["debug", "info", "warning", "error"],
    style: Literal["json", "console"],
    stream: TextIO | None = None,
) -> None:
    """Send structlog's events and the standard library's records through the same renderer.

    Args:
        level: least severe level that is written.
        style: ``json`` for machines, ``console`` for people.
        stream: where to; standard output, if not given.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if style == "json"
        else [structlog.dev.ConsoleRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
