"""Keeps the garbage collector from looking at every timer again and again.

A full collection with 10,000 timers takes 30 to 90 ms, and nothing fires meanwhile. Timers have no cycles: they go when the last
reference does. So once in a while what there is is put where the collector does not look (``gc.freeze``), which costs nothing.
"""

import gc
from typing import Final

#: After so many new objects it is worth it. Not always: what was garbage in a cycle just then is never found.
_MANY: Final = 1000


class LongLived:
    """Counts objects that will live long."""

    def __init__(self) -> None:
        self._new = 0

    def one_more(self) -> None:
        """There is another one."""
        self._new += 1
        if self._new >= _MANY:
            self._new = 0
            gc.collect(1)  # young garbage; takes a millisecond at most
            gc.freeze()
