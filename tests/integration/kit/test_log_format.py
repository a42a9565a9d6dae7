"""Logs of real programs: JSON for machines unless somebody asks for text."""

import json
import os
import subprocess
import sys

import pytest

PROGRAMS = {
    "operator": ("-m", "attune_operator", "--check"),
    "actions": ("-m", "attune_actions", "--check"),
    "api": (
        "-m",
        "attune_api",
        "backup",
        "/nowhere/copy.db",
    ),  # says its settings, and then that there is no such folder
    "sensor": ("-c", "from attune_timer.__main__ import main; main()"),  # says what is missing in its environment
}


def said(program: str, *arguments: str, **variables: str) -> str:
    """What a program says first."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ATTUNE_", "OTEL_"))}
    environment["ATTUNE_OPERATOR_NAMESPACE"] = "test"
    done = subprocess.run(
        [sys.executable, *PROGRAMS[program], *arguments],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def is_json(text: str) -> bool:
    """Whether the first line is one of a log in JSON."""
    try:
        found = json.loads(text.splitlines()[0])
    except ValueError:
        return False
    return isinstance(found, dict) and {"event", "level", "timestamp", "logger"} <= found.keys()


@pytest.mark.parametrize("program", PROGRAMS)
def test_logs_are_json_unless_the_variable_says_text(program: str) -> None:
    assert is_json(said(program))
    text = said(program, ATTUNE_LOG_FORMAT="text")
    assert not is_json(text)
    assert "sensor_misconfigured" in text if program == "sensor" else "settings" in text
    assert "\x1b" not in text, "no colours where it is not a terminal"
    if program == "sensor":
        assert is_json(said(program, ATTUNE_LOG_FORMAT="pretty"))
        assert "'pretty' is none of json, text" in said(program, ATTUNE_LOG_FORMAT="pretty")
        return
    own = f"ATTUNE_{program.upper()}_LOG_FORMAT"
    assert is_json(said(program, **{"ATTUNE_LOG_FORMAT": "text", own: "json"})), "the program's own setting wins"
    assert not is_json(said(program, "--log-format", "text"))
    assert own in said(program, ATTUNE_LOG_FORMAT="pretty")
