"""How the operator and the API keep their memory: what the C library's allocator and Python's collector of garbage are told.

No contract; it is here since both may import nothing else that both have.
"""

import ctypes
import gc
from typing import Final

# mallopt(3)
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
#: Bytes. Left alone, both thresholds grow with the largest block that was ever freed, and what lies below is kept.
_THRESHOLD: Final = 128 * 1024
#: Each arena keeps free memory of its own; threads of these programs wait for the disk, not for the allocator.
_ARENAS: Final = 1
#: Objects between collections of garbage, for ``gc.set_threshold``. A list of all Rules makes and drops some hundred
#: thousand, none of them in cycles; by Python's default of 700, looking for cycles among them is half of what a list costs.
_GARBAGE_THRESHOLD: Final = 10_000


def give_back() -> None:
    """Have the allocator keep no more free memory than is soon needed again; before threads are started.

    Without effect where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    try:
        set_option = library.mallopt
    except AttributeError:
        return
    for option, value in ((_M_ARENA_MAX, _ARENAS), (_M_MMAP_THRESHOLD, _THRESHOLD), (_M_TRIM_THRESHOLD, _THRESHOLD)):
        set_option(option, value)


def settle() -> None:
    """The program has started: what there is now stays, and need not be looked through for garbage while somebody waits.

    A full collection takes some 50 ms for what is imported alone, and comes when it likes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
