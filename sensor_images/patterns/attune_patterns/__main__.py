"""The program of the sensor for patterns: events about events."""

from attune_kit.memory import freeze_startup_objects
from attune_patterns.handler import PatternHandler
from attune_sensor import WhenFull, run_sensor


def main() -> int:
    """Run until SIGTERM; returns the exit status."""
    freeze_startup_objects()
    # What happened waits for room: it is decided again from what is stored.
    return run_sensor(PatternHandler, when_full=WhenFull.BLOCK)


if __name__ == "__main__":
    raise SystemExit(main())
