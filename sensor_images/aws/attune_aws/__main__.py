"""The AWS sensor's program."""

from attune_aws.kind import Aws
from attune_kit.memory import freeze_startup_objects
from attune_sensor import Rule, SensorContext, SourceHandler, WhenFull, run_sensor


class Handler(SourceHandler):
    """Serves the rules, and forgets when to list buckets for those that are gone."""

    def __init__(self, context: SensorContext) -> None:
        self._aws = Aws(context)
        super().__init__(context, self._aws)

    async def stop(self, rule: Rule) -> None:
        """Stop reading for the rule. What it remembers stays at the API."""
        await super().stop(rule)
        self._aws.forget(rule)


def main() -> int:
    """Run until SIGTERM; returns the exit status."""
    freeze_startup_objects()
    # What was read waits for room: AWS keeps it meanwhile.
    return run_sensor(Handler, when_full=WhenFull.BLOCK)


if __name__ == "__main__":
    raise SystemExit(main())
