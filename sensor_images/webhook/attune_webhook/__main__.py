"""The webhook sensor's program. With the argument ``emitted`` it is the Sensor ``core.event``: both take requests alike."""

import sys
from collections.abc import Callable

import uvloop

from attune_kit.memory import freeze_startup_objects
from attune_sensor import RuleHandler, SensorContext, WhenFull, run_sensor


def main() -> int:
    """Run until SIGTERM; returns the exit status."""
    handler = _handler(sys.argv[1:])
    # Under load the collector looked at all that is imported once a second, for 30 ms in which nobody was answered.
    freeze_startup_objects()
    # The sender has the answer that its event is safe, so no newer one may push it out.
    return run_sensor(handler, when_full=WhenFull.DROP_NEWEST, loop_factory=uvloop.new_event_loop)


def _handler(arguments: list[str]) -> Callable[[SensorContext], RuleHandler]:
    # Only what is needed is imported: each program is a pod of its own, and counts its memory.
    if arguments == ["emitted"]:
        from attune_webhook.emitted.handler import EmittedHandler

        return EmittedHandler
    from attune_webhook.handler import WebhookHandler

    return WebhookHandler


if __name__ == "__main__":
    raise SystemExit(main())
