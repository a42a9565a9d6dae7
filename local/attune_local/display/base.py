"""What a display shows."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

Event = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Where everything is, once it answers."""

    api_url: str
    token_file: Path
    data_dir: Path
    program: str = "attune"  #: how somebody calls the command line in this folder


class Display(Protocol):
    """Shows what happens."""

    async def run(self) -> None:
        """Whatever has to be done again and again, until cancelled."""

    async def events(self, events: list[Event]) -> None:
        """Events were stored.

        Raises:
            BrokenPipeError: the reader of the pipe has closed it.
        """

    def started(self, started: Started) -> None:
        """Everything answers."""

    def notice(self, text: str) -> None:
        """Something that somebody should know: one sentence, with file and line where there is one."""

    def output(self, sensor: str, line: str) -> None:
        """A sensor has said something."""

    def close(self) -> None:
        """The end."""


def event_line(event: Event) -> str:
    """An event for people."""
    late = datetime.fromisoformat(event["received_at"]) - datetime.fromisoformat(event["occurred_at"])
    rule = f"{event['rule_namespace']}/{event['rule_name']}"
    payload = json.dumps(event["payload"], separators=(",", ":"), ensure_ascii=False)
    milliseconds = late.total_seconds() * 1000
    return f"{event['occurred_at']:27} {milliseconds:9.1f} ms  {event['trigger_type']:20} {rule:32} {payload[:200]}"


HEADER = f"{'OCCURRED':27} {'STORED AFTER':>12}  {'TRIGGER TYPE':20} {'RULE':32} PAYLOAD"


def where_line(started: Started) -> str:
    """Where everything is, for people."""
    return f"The API is at {started.api_url} (token in {started.token_file}); data and logs in {started.data_dir}."


def program(called: str, *, found: str | None) -> str:
    """How somebody calls the command line: by its name where the shell finds it, else by its path.

    Args:
        called: how this process was called (``sys.argv[0]``).
        found: the program of that name on the PATH, if there is one.
    """
    if found is not None and Path(found).resolve() == Path(called).resolve():
        return Path(called).name
    path = Path(called).absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def next_line(started: Started) -> str:
    """Where to look next, for people who have just started it."""
    attune = started.program
    return (
        f"Next, in another terminal here: {attune} status; {attune} rules list; {attune} events list --follow; "
        f"{attune} explain. Edits of the manifests take effect at once; {attune} new rule writes one."
    )
