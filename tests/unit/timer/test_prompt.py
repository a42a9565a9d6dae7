"""The clock thread is let run at once, and is otherwise as it was."""

import ctypes
import os
import platform
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from attune_timer.prompt import SLICE, SchedAttr, ask_to_run_at_once

#: sched_getattr(2)
_GETATTR = {"x86_64": 315, "aarch64": 275}.get(platform.machine())

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or _GETATTR is None,
    reason="Linux's scheduler, on the machines that images are built for",
)


def attributes() -> SchedAttr:
    """Those of the calling thread."""
    found = SchedAttr()
    assert ctypes.CDLL(None).syscall(_GETATTR, 0, ctypes.byref(found), ctypes.sizeof(found), 0) == 0
    return found


def in_a_thread(work: Callable[[], object]) -> None:
    """Niceness and slices are a thread's own; nothing of them is left behind."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(work).result()


def test_a_thread_gets_the_shortest_slice_and_keeps_its_niceness() -> None:
    kernel = tuple(int(part) for part in platform.release().split(".")[:2])

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + 3)
        before = attributes()
        assert ask_to_run_at_once()
        after = attributes()
        assert (after.sched_policy, after.sched_nice) == (os.SCHED_OTHER, before.sched_nice)
        if kernel >= (6, 12):
            assert after.sched_runtime == SLICE

    in_a_thread(work)


def test_other_threads_are_left_alone() -> None:
    before = attributes().sched_runtime
    in_a_thread(ask_to_run_at_once)
    assert attributes().sched_runtime == before


def test_a_thread_with_another_policy_keeps_it() -> None:
    def work() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        assert not ask_to_run_at_once()
        assert os.sched_getscheduler(0) == os.SCHED_BATCH

    in_a_thread(work)
