"""The timer sensor's program."""

import sys
from typing import Final

from attune_kit.memory import freeze_startup_objects
from attune_sensor import run_sensor
from attune_timer.handler import TimerHandler

#: How long (seconds) one thread may keep the interpreter while another waits. Python's own 5 ms would be the clock's error.
_SWITCH_INTERVAL: Final = 0.0005


def main() -> int:
    """Run until SIGTERM; returns the exit status."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    freeze_startup_objects()
    return run_sensor(TimerHandler)


if __name__ == "__main__":
    raise SystemExit(main())
