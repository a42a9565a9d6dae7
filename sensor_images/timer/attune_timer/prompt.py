"""Asks the kernel to let a thread run as soon as it wakes, although others are running."""

import contextlib
import ctypes
import os
import platform
from typing import Final

#: Nanoseconds; the shortest slice. A thread that asks for so little gets the processor sooner.
SLICE: Final = 100_000
#: sched_setattr(2), which the C library has no function for.
_NUMBERS: Final = {"x86_64": 314, "aarch64": 274}


class SchedAttr(ctypes.Structure):
    """``struct sched_attr``, version 0 (sched_setattr(2))."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("sched_policy", ctypes.c_uint32),
        ("sched_flags", ctypes.c_uint64),
        ("sched_nice", ctypes.c_int32),
        ("sched_priority", ctypes.c_uint32),
        ("sched_runtime", ctypes.c_uint64),
        ("sched_deadline", ctypes.c_uint64),
        ("sched_period", ctypes.c_uint64),
    )


def ask_to_run_at_once() -> bool:
    """Give the calling thread the shortest slice of time. It needs no privilege and leaves its policy and niceness as they are.

    Linux 6.12 or newer heeds it (EEVDF, ``sched_attr.sched_runtime`` of ``SCHED_OTHER``); older ones do as before.

    Returns:
        Whether the kernel took it. Not where the thread has a real-time policy, nor where the call is unknown or forbidden.
    """
    number = _NUMBERS.get(platform.machine())
    if number is None or not hasattr(os, "sched_getscheduler") or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    niceness = os.getpriority(os.PRIO_PROCESS, 0)  # the thread's own, on Linux
    wanted = SchedAttr(
        size=ctypes.sizeof(SchedAttr), sched_policy=os.SCHED_OTHER, sched_nice=niceness, sched_runtime=SLICE
    )
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).syscall(number, 0, ctypes.byref(wanted), 0) == 0)
    return False
