"""The HTTP sensor's program."""

from attune_http.kind import Addresses
from attune_kit.memory import freeze_startup_objects
from attune_sensor import Rule, SensorContext, SourceHandler, WhenFull, run_sensor


class Handler(SourceHandler):
    """Serves the rules, and forgets when to ask for those that are gone."""

    def __init__(self, context: SensorContext) -> None:
        self._addresses = Addresses(context, remark=self.remark)
        super().__init__(context, self._addresses)

    async def stop(self, rule: Rule) -> None:
        """Stop polling for the rule. What it remembers stays at the API."""
        await super().stop(rule)
        self._addresses.forget(rule)


def main() -> int:
    """Run until SIGTERM; returns the exit status."""
    freeze_startup_objects()
    # What was found waits for room: it is found again meanwhile.
    return run_sensor(Handler, when_full=WhenFull.BLOCK)


if __name__ == "__main__":
    raise SystemExit(main())
