"""Programs that print lines, run by the real supervisor of them under the SDK's harness."""

import os
import sys
from pathlib import Path
from typing import Any

from attune_sensor import Rule
from attune_sensor.testing import FakeApi, SensorHarness
from attune_stdio.handler import handler_for
from attune_stdio.output import OutputOptions
from attune_stdio.restarts import Restarts
from attune_stdio.settings import Mode, OnExit, StdioSettings

TYPE = "acme.thing"

#: What stands before each Python program of the tests.
_PRELUDE = """
import json, os, signal, sys, time
def say(payload, **more):
    print(json.dumps({"payload": payload, **more}), flush=True)
def hold():
    while True:
        time.sleep(60)
"""


def python(text: str) -> tuple[str, ...]:
    """A command that runs a Python program."""
    return (sys.executable, "-I", "-c", _PRELUDE + text)


def shell(text: str) -> tuple[str, ...]:
    """A command that runs a shell script."""
    return ("/bin/sh", "-c", text)


def harness(
    command: tuple[str, ...],
    *,
    mode: Mode = Mode.PER_RULE,
    on_exit: OnExit = OnExit.COMPLETE,
    lines_per_second: float = 1000.0,
    stop_seconds: float = 5.0,
    scripts: Path | None = None,
    output: OutputOptions | None = None,
    retry: float = 0.05,
    healthy_after: float = 0.3,
    trigger_types: tuple[str, ...] = (TYPE,),
    environment: dict[str, str] | None = None,
    api: FakeApi | None = None,
) -> SensorHarness:
    """A harness with the supervisor in it. Waits are short: ``retry`` seconds before each restart."""
    settings = StdioSettings(
        command=command,
        mode=mode,
        on_exit=on_exit,
        lines_per_second=lines_per_second,
        stop_seconds=stop_seconds,
        scripts_dir=scripts,
        output=output or OutputOptions(),
    )
    handler = handler_for(
        settings,
        environment={"PATH": os.environ["PATH"], **(environment or {})},
        restarts=Restarts(initial=retry, maximum=retry),
        healthy_after=healthy_after,
        chance=lambda: 1.0,
    )
    return SensorHarness(handler, trigger_types=trigger_types, api=api)


def events_of(api: FakeApi, rule: Rule) -> list[dict[str, Any]]:
    """The payloads of a rule's events so far."""
    return [event.payload for event in api.events if event.rule_uid == rule.uid]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
