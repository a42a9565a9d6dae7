"""Processor time of a process."""

import time

#: CPUCLOCK_SCHED in Linux' include/linux/posix-timers.h: user and system time of all threads, in nanoseconds.
_SCHEDULED = 2


def cpu_seconds(pid: int) -> float:
    """What a process has spent so far, all its threads together, in seconds (clock_getcpuclockid(3), which Python lacks)."""
    return time.clock_gettime((~pid << 3) | _SCHEDULED)
