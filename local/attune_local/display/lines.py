"""Lines for pipes and logs: events on stdout, everything else on stderr."""

import asyncio
import json
import sys
from typing import TextIO

from attune_local.display.base import HEADER, Event, Started, event_line, next_line, where_line


class _Lines:
    """What both kinds have in common. ``outputs``: whether sensors' own output is passed on."""

    def __init__(self, *, outputs: bool, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self._outputs = outputs
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr

    async def run(self) -> None:
        """Nothing has to be done by itself."""
        await asyncio.Event().wait()

    async def events(self, events: list[Event]) -> None:
        """Print events, in a thread: the reader of the pipe may be slow, and that must hold up nothing else."""
        text = "".join(f"{self._line(event)}\n" for event in events)
        await asyncio.to_thread(self._print, text)

    def _print(self, text: str) -> None:
        self._stdout.write(text)
        self._stdout.flush()

    def _line(self, event: Event) -> str:
        raise NotImplementedError

    def started(self, started: Started) -> None:
        """Say where everything is."""
        self._say(where_line(started))
        self._say(next_line(started))

    def notice(self, text: str) -> None:
        """Say it."""
        self._say(text)

    def output(self, sensor: str, line: str) -> None:
        """Pass a sensor's line on."""
        if self._outputs:
            self._say(f"{sensor} | {line}")

    def _say(self, text: str) -> None:
        self._stderr.write(f"{text}\n")
        self._stderr.flush()

    def close(self) -> None:
        """Nothing is left to be done."""


class JsonLines(_Lines):
    """One JSON object a line, as ``GET /api/v1/events`` has it."""

    def _line(self, event: Event) -> str:
        return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


class PlainLines(_Lines):
    """For people, without a terminal."""

    def started(self, started: Started) -> None:
        """Say where everything is, and what the columns are."""
        super().started(started)
        self._stdout.write(f"{HEADER}\n")
        self._stdout.flush()

    def _line(self, event: Event) -> str:
        return event_line(event)
