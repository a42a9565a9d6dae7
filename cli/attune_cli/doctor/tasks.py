"""Reads many things at once, in bounded time, whatever fails."""

import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Final

from attune_cli.doctor.bundle import Bundle
from attune_cli.errors import CliError

#: Requests at once: an API server has other clients.
_WORKERS: Final = 6
_POLL: Final = 0.2

#: What is read, as its path in the bundle, and how.
Task = tuple[str, Callable[[], None]]


def run_all(tasks: Iterable[Task], bundle: Bundle, *, seconds: float) -> None:
    """Run tasks. What fails, or is not done in time, becomes a note of the bundle.

    Args:
        tasks: adds something to the bundle, each.
        bundle: where the notes go.
        seconds: for all of them. Threads that are stuck are left to end with the process.
    """
    queue: SimpleQueue[Task] = SimpleQueue()
    open_tasks = 0
    waiting: set[str] = set()
    for task in tasks:
        queue.put(task)
        waiting.add(task[0])
        open_tasks += 1
    done: SimpleQueue[tuple[str, str | None]] = SimpleQueue()
    deadline = time.monotonic() + seconds

    def work() -> None:
        while time.monotonic() < deadline:
            try:
                path, read = queue.get_nowait()
            except Empty:
                return
            done.put((path, _outcome(read)))

    for _ in range(min(_WORKERS, open_tasks)):
        threading.Thread(target=work, daemon=True, name="doctor").start()
    while open_tasks and time.monotonic() < deadline:
        try:
            path, problem = done.get(timeout=_POLL)
        except Empty:
            continue
        open_tasks -= 1
        waiting.discard(path)
        if problem is not None:
            bundle.note(path, problem)
    for path in sorted(waiting):
        bundle.note(path, f"not read: the {seconds:g} s were over (--timeout)")


def _outcome(read: Callable[[], None]) -> str | None:
    try:
        read()
    except CliError as error:
        return f"not read: {error}"
    except Exception as error:  # one file must not cost the others
        return f"not read: {type(error).__name__}: {error}"
    return None
