"""The webhook sensor's program."""

import uvloop

from attune_sensor import WhenFull, run_sensor
from attune_webhook.handler import WebhookHandler


def main() -> int:
    """Run until SIGTERM; returns the exit status."""
    # The sender has the answer that its event is safe, so no newer one may push it out.
    return run_sensor(WebhookHandler, when_full=WhenFull.DROP_NEWEST, loop_factory=uvloop.new_event_loop)


if __name__ == "__main__":
    raise SystemExit(main())
