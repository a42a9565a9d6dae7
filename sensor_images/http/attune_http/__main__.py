"""The HTTP sensor's program."""

from attune_http.kind import Addresses
from attune_kit.memory import freeze_startup_objects
from attune_sensor import SensorContext, SourceHandler, WhenFull, run_sensor


def handler(context: SensorContext) -> SourceHandler:
    """What serves the rules."""
    return SourceHandler(context, Addresses(context))


def main() -> int:
    """Run until SIGTERM; returns the exit status."""
    freeze_startup_objects()
    # What was found waits for room: it is found again meanwhile.
    return run_sensor(handler, when_full=WhenFull.BLOCK)


if __name__ == "__main__":
    raise SystemExit(main())
