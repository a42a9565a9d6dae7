"""Ctrl-C ends ``attune up`` in order when it can, and in any case."""

import signal
import subprocess
import sys
import time

import pytest
from support.eventually import eventually

PROGRAM = """
import asyncio, time
from attune_local.signals import StopSignals

async def main():
    stop = asyncio.Event()
    StopSignals(lambda number: (print(number.name, flush=True), stop.set()), patience={patience}).install()
    print("ready", flush=True)
    if {busy}:
        while True:
            time.sleep(0.01)
    await stop.wait()
    print("ended in order", flush=True)

asyncio.run(main())
"""


def started(*, busy: bool, patience: float) -> subprocess.Popen[str]:
    program = PROGRAM.format(busy=busy, patience=patience)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    process = started(busy=False, patience=30)
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    assert out == f"{number.name}\nended in order\n"
    assert process.returncode == 0


def test_a_busy_loop_does_not_keep_it_from_ending() -> None:
    process = started(busy=True, patience=0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert 0.4 < time.monotonic() - began < 100
    assert "busy" in err


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    process = started(busy=True, patience=3600)
    process.send_signal(signal.SIGINT)

    def ended() -> bool:
        # Two that come while it has not run in between are one to it.
        process.send_signal(signal.SIGINT)
        return process.poll() is not None

    eventually(ended, within=20, every=0.3)
    process.communicate(timeout=120)
    assert process.returncode == 130
