"""Logs are JSON, one object per line, and hold no local variables."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from attune_kit.logs import configure_logs, log_handler


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_events_are_json_with_their_logger_level_and_time() -> None:
    stream = io.StringIO()
    configure_logs(level="info", stream=stream)
    structlog.get_logger("acme").bind(rule="default/x").info("started", count=3)
    structlog.get_logger("acme").debug("not shown")
    [line] = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "started", "level": "info", "logger": "acme", "rule": "default/x", "count": 3}


def test_of_libraries_only_warnings_are_shown() -> None:
    stream = io.StringIO()
    configure_logs(level="DEBUG", stream=stream)
    logging.getLogger("library").info("request sent")
    logging.getLogger("library").warning("request %s", "failed")
    assert [line["event"] for line in lines(stream)] == ["request failed"]


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_traceback_shows_no_local_variables(style: Any) -> None:
    stream = io.StringIO()
    configure_logs(level="INFO", style=style, stream=stream)
    try:
        token = "secret-" + "token"
        raise LookupError(len(token))
    except LookupError:
        structlog.get_logger("acme").exception("failed")
    assert "LookupError" in stream.getvalue()
    assert "secret-token" not in stream.getvalue()


@pytest.mark.parametrize("value", [2**80, float("nan"), {1: {2}}, object(), b"\xff", {(1, 2): 3}])
def test_any_value_can_be_logged(value: Any) -> None:
    stream = io.StringIO()
    configure_logs(level="INFO", stream=stream)
    structlog.get_logger("acme").info("value", value=value)
    assert lines(stream)[0]["event"] == "value"


def test_handlers_may_differ_in_style_and_level() -> None:
    file, terminal = io.StringIO(), io.StringIO()
    shown = log_handler(logging.StreamHandler(terminal), style="text")
    shown.setLevel(logging.WARNING)
    configure_logs(level="INFO", handlers=[log_handler(logging.StreamHandler(file), style="json"), shown])
    structlog.get_logger("acme").info("quiet")
    structlog.get_logger("acme").warning("loud")
    assert [line["event"] for line in lines(file)] == ["quiet", "loud"]
    assert "loud" in terminal.getvalue()
    assert "quiet" not in terminal.getvalue()
