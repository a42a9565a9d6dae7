"""Waiting for a condition, never for a length of time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(probe: Callable[[], T], *, within: float, every: float = 0.1, what: str = "") -> T:
    """Call ``probe`` until it returns something true and raises nothing; return that.

    Args:
        within: seconds after which to give up.
        every: seconds between two calls.
        what: what is being waited for, for the failure's text.

    Raises:
        AssertionError: it did not come in time; the text holds what was seen last.
    """
    deadline = time.monotonic() + within
    while True:
        error: Exception | None = None
        seen: T | None = None
        try:
            seen = probe()
        except (AssertionError, LookupError, OSError, RuntimeError) as raised:
            error = raised
        if error is None and seen:
            return seen
        if time.monotonic() >= deadline:
            raise AssertionError(
                f"not within {within} s: {what or getattr(probe, '__name__', probe)}; seen last: {seen!r}"
            ) from error
        time.sleep(every)
