"""The files sensor's program."""

from attune_files.kind import Folders
from attune_kit.memory import freeze_startup_objects
from attune_sensor import Rule, SensorContext, SourceHandler, WhenFull, run_sensor


class Handler(SourceHandler):
    """Serves the rules."""

    def __init__(self, context: SensorContext) -> None:
        self._folders = Folders(context)
        super().__init__(context, self._folders)

    async def stop(self, rule: Rule) -> None:
        """Stop looking for the rule. What it remembers stays at the API."""
        await super().stop(rule)
        self._folders.forget(rule)


def main() -> int:
    """Run until SIGTERM; returns the exit status."""
    freeze_startup_objects()
    # What was found waits for room: the files stay where they are.
    return run_sensor(Handler, when_full=WhenFull.BLOCK)


if __name__ == "__main__":
    raise SystemExit(main())
