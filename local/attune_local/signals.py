"""Ctrl-C and SIGTERM: an orderly end while the event loop runs, and an end in any case."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Exit status of a program that Ctrl-C has ended.
_INTERRUPTED: Final = 130
#: Seconds within which the event loop must take notice of a signal.
PATIENCE: Final = 5.0


class StopSignals:
    """Calls ``on_stop`` in the event loop at the first signal; ends the process at a second Ctrl-C.

    The handlers are Python's, not the loop's: they run between two steps of whatever runs, so they work while something keeps the
    loop busy. When the loop does not react within ``patience`` seconds the process ends without order; the guard then ends the
    processes that are left.
    """

    def __init__(self, on_stop: Callable[[signal.Signals], None], *, patience: float = PATIENCE) -> None:
        self._on_stop = on_stop
        self._patience = patience
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = False
        self._heard = threading.Event()

    def install(self) -> None:
        """Handle the signals from now on. Call it in the main thread, inside the event loop."""
        self._loop = asyncio.get_running_loop()
        for number in SIGNALS:
            signal.signal(number, self._received)

    def _received(self, number: int, _: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            os._exit(_INTERRUPTED)
        if not self._asked:
            self._asked = True
            threading.Thread(target=self._end_if_not_heard, daemon=True, name="stop").start()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._hear, signal.Signals(number))

    def _hear(self, number: signal.Signals) -> None:
        self._heard.set()
        self._on_stop(number)

    def _end_if_not_heard(self) -> None:
        if not self._heard.wait(self._patience):
            sys.stderr.write("attune up is busy and cannot stop in order; it ends now.\n")
            sys.stderr.flush()
            os._exit(_INTERRUPTED)
