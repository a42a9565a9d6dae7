"""Where the log goes: everything into a file, one JSON object a line; warnings also to stderr, where nobody draws on it."""

import logging
import sys
from pathlib import Path
from typing import Any

import structlog

_SHARED: list[Any] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(file: Path, *, verbose: bool, stderr: bool) -> None:
    """Send every record of this process there. ``verbose``: stderr gets what the file gets."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Tracebacks without local variables: those could hold a token or a key.
    tracebacks: Any = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    )
    handlers: list[logging.Handler] = [
        _handler(logging.FileHandler(file, encoding="utf-8"), tracebacks, structlog.processors.JSONRenderer())
    ]
    if stderr:
        shown = _handler(
            logging.StreamHandler(sys.stderr),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        )
        shown.setLevel(logging.INFO if verbose else logging.WARNING)
        handlers.append(shown)
    root = logging.getLogger()
    root.handlers = handlers
    root.setLevel(logging.INFO)
    for noisy in ("aiohttp", "asyncio", "nats", "watchfiles"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _handler(handler: logging.Handler, tracebacks: Any, renderer: Any) -> logging.Handler:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, tracebacks, renderer],
        )
    )
    return handler
