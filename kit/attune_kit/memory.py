"""How long-running programs keep their memory small: settings of the C library's allocator and of Python's garbage collector."""

import ctypes
import gc
from typing import Final

# mallopt(3)
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
#: Bytes. By default both thresholds grow with the largest block that was ever freed, and memory below them is kept.
_THRESHOLD: Final = 128 * 1024
#: Each arena keeps free memory. Threads of these programs wait for the disk, not for the allocator.
_ARENAS: Final = 1
#: New objects between two garbage collections, for ``gc.set_threshold``. A list of all Rules creates and drops some hundred
#: thousand, none of them in cycles. With Python's default of 700, searching them for cycles is half of a list's cost.
_GARBAGE_THRESHOLD: Final = 10_000


def limit_allocator() -> None:
    """Make the allocator return free memory to the system. Call it before threads are started.

    It has no effect where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    try:
        set_option = library.mallopt
    except AttributeError:
        return
    for option, value in ((_M_ARENA_MAX, _ARENAS), (_M_MMAP_THRESHOLD, _THRESHOLD), (_M_TRIM_THRESHOLD, _THRESHOLD)):
        set_option(option, value)


def freeze_startup_objects() -> None:
    """Exclude everything that exists now from garbage collection. Call it once the program has started.

    A full collection takes about 50 ms for the imported modules alone, and may come while somebody waits for an answer.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    release_memory()


def release_memory() -> None:
    """Give the system back what the allocator holds free, after something large was read. It takes a few milliseconds.

    It has no effect where the C library is not glibc.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
