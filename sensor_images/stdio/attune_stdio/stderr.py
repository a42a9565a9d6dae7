"""What a program says on its standard error: all of it into the log, the last of it into a sentence."""

import asyncio
import collections
import time
from typing import Any, Final

from attune_stdio.lines import Line, LineSplitter
from attune_stdio.pipes import CHUNK, ReadPipe
from attune_stdio.throttle import Throttle

#: A line of standard error is logged up to this length (bytes), and the sentence shows so much of each (characters).
_MAX_LINE: Final = 8 * 1024
_SHOWN: Final = 200
_LAST: Final = 5
#: So many lines a second are logged; a second's worth more at once. The rest are counted.
_LOGGED: Final = 100.0


class ErrorOutput:
    """Reads a program's standard error.

    Args:
        log: a structlog logger that names the program.
    """

    def __init__(self, *, log: Any) -> None:
        self._log = log
        self._last: collections.deque[str] = collections.deque(maxlen=_LAST)
        self._throttle = Throttle(rate=_LOGGED, now=time.monotonic())
        self._left_out = 0

    @property
    def last(self) -> str:
        """The last lines, as one."""
        return " | ".join(self._last)

    async def read(self, pipe: ReadPipe) -> None:
        """Read until the end of the pipe."""
        splitter = LineSplitter(limit=_MAX_LINE)
        while data := await pipe.read():
            for line in splitter.feed(data):
                self._take(line)
            # Who writes without end must not get all of the processor.
            await asyncio.sleep(0.001 if len(data) == CHUNK else 0)
        if (rest := splitter.end()) is not None:
            self._take(rest)
        self._say_left_out()

    def _take(self, line: Line) -> None:
        text = line.text.decode("utf-8", "replace").strip()
        if not text:
            return
        self._last.append(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
        now = time.monotonic()
        if self._throttle.take(0, now=now):
            self._left_out += 1
            return
        self._throttle.take(1, now=now)
        self._say_left_out()
        self._log.info("program_said", line=text, **({"cut_from_bytes": line.length} if line.cut else {}))

    def _say_left_out(self) -> None:
        if self._left_out:
            self._log.warning("program_said_too_much", lines_left_out=self._left_out)
            self._left_out = 0
