"""The webhook sensor's program."""

import uvloop

from attune_kit.memory import freeze_startup_objects
from attune_sensor import WhenFull, run_sensor
from attune_webhook.handler import WebhookHandler


def main() -> int:
    """Run until SIGTERM; returns the exit status."""
    # Under load the collector looked at all that is imported once a second, for 30 ms in which nobody was answered.
    freeze_startup_objects()
    # The sender has the answer that its event is safe, so no newer one may push it out.
    return run_sensor(WebhookHandler, when_full=WhenFull.DROP_NEWEST, loop_factory=uvloop.new_event_loop)


if __name__ == "__main__":
    raise SystemExit(main())
