"""The PostgreSQL sensor's program."""

from attune_kit.memory import freeze_startup_objects
from attune_postgres.kind import PostgresSources
from attune_sensor import SensorContext, SourceHandler, WhenFull, run_sensor


def handler(context: SensorContext) -> SourceHandler:
    """What serves the rules."""
    return SourceHandler(context, PostgresSources(context))


def main() -> int:
    """Run until SIGTERM; returns the exit status."""
    freeze_startup_objects()
    # What was read waits for room: PostgreSQL keeps it meanwhile.
    return run_sensor(handler, when_full=WhenFull.BLOCK)


if __name__ == "__main__":
    raise SystemExit(main())
