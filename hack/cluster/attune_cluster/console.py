"""What the person at the terminal sees: one line per step, its time, and a sign of life while it runs.

Everything goes to standard error, so that `tools` can print JSON on standard output.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

HEARTBEAT = 5.0
"""Seconds between two signs of life of a step that takes long."""


class ClusterError(Exception):
    """Something the person can act on: the message is one clear sentence or two, and is all that is printed."""


def say(message: str) -> None:
    """Print one line, at once."""
    print(message, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


@contextlib.contextmanager
def step(title: str, *, detail: Callable[[], str] | None = None) -> Iterator[None]:
    """Announce a step, say every few seconds that it still runs, and how long it took.

    `detail` is asked at each sign of life for something that shows progress (a count, the last line of a log).
    A step that ends within a tenth of a second prints nothing but its title.
    """
    started = time.monotonic()
    over = threading.Event()
    say(f"• {title}")

    def heartbeat() -> None:
        while not over.wait(HEARTBEAT):
            more = f": {detail()}" if detail is not None else ""
            say(f"  … {_duration(time.monotonic() - started)}{more}")

    thread = threading.Thread(target=heartbeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    took = time.monotonic() - started
    if took >= 0.1:
        say(f"  done in {_duration(took)}")


def wait_until(condition: Callable[[], bool], *, seconds: float, interval: float = 0.2) -> bool:
    """Ask `condition` until it holds (True) or `seconds` have passed (False)."""
    deadline = time.monotonic() + seconds
    while True:
        if condition():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
