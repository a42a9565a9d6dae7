"""Waiting for a condition, never for a length of time: ``eventually`` blocks, ``until`` lets the event loop run.

How soon something comes is not what a test says: a busy machine takes its time, and each wait gets at least ``PATIENCE``.
Only tests that measure time (the marker ``alone``) get no more than they ask for, on a machine that runs: time in which it
stood still, so that nobody could look, does not count.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, overload

T = TypeVar("T")

#: Seconds that each wait gets at least.
PATIENCE: Final = 150.0

#: Seconds that pass between two looks at the most, beside what is waited on purpose, in tests that measure time. More than
#: that, and the machine did something else.
_RUNNING: Final = 0.25

_measuring = False


def measure_time(yes: bool) -> None:
    """Whether the test that runs now measures time, so that its limits hold as they stand."""
    global _measuring
    _measuring = yes


def patience(within: float) -> float:
    """The seconds after which to give up what should have come ``within`` so many."""
    return within if _measuring else max(within, PATIENCE)


class _Wait:
    """How long the looks at one condition may go on, and what to say when it is not met."""

    def __init__(self, probe: Callable[[], Any], within: float, every: float, what: str) -> None:
        self._what = what or getattr(probe, "__qualname__", repr(probe))
        self._within = within
        self._longest_step = every + _RUNNING if _measuring else within
        self._spent = 0.0
        self._looked = time.monotonic()

    def saw(self, seen: Any, error: Exception | None) -> None:
        """Note a look that did not find the condition met.

        Raises:
            AssertionError: it was the last; the text holds what was seen.
        """
        now = time.monotonic()
        self._spent += min(now - self._looked, self._longest_step)
        self._looked = now
        if self._spent >= self._within:
            raise AssertionError(f"not within {self._within} s: {self._what}; seen last: {seen!r}") from error


def eventually(probe: Callable[[], T | None], *, within: float, every: float = 0.1, what: str = "") -> T:
    """Call ``probe`` until it returns something true and raises nothing; return that.

    Args:
        probe: what is waited for. An exception means "not yet".
        within: seconds after which it should have come; see :func:`patience`.
        every: seconds between two calls.
        what: what is being waited for, for the failure's text.

    Raises:
        AssertionError: it did not come in time; the text holds what was seen last.
    """
    wait = _Wait(probe, patience(within), every, what)
    while True:
        seen, error = None, None
        try:
            seen = probe()
        except Exception as raised:
            error = raised
        if error is None and seen:
            return seen
        wait.saw(seen, error)
        time.sleep(every)


@overload
async def until(
    probe: Callable[[], Awaitable[T | None]], *, within: float = 10.0, every: float = 0.02, what: str = ""
) -> T: ...
@overload
async def until(probe: Callable[[], T | None], *, within: float = 10.0, every: float = 0.02, what: str = "") -> T: ...
async def until(probe: Callable[[], Any], *, within: float = 10.0, every: float = 0.02, what: str = "") -> Any:
    """As ``eventually``, in the event loop. ``probe`` may be a coroutine function; one that is not must not block."""
    wait = _Wait(probe, patience(within), every, what)
    while True:
        seen, error = None, None
        try:
            seen = probe()
            if inspect.isawaitable(seen):
                seen = await seen
        except Exception as raised:
            error = raised
        if error is None and seen:
            return seen
        wait.saw(seen, error)
        await asyncio.sleep(every)
