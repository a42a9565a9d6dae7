"""The MQTT sensor's program."""

import logging

from attune_kit.memory import freeze_startup_objects
from attune_mqtt.kind import MqttTopics
from attune_sensor import SensorContext, SourceHandler, WhenFull, run_sensor


def handler(context: SensorContext) -> SourceHandler:
    """What serves the rules."""
    return SourceHandler(context, MqttTopics(context))


def main() -> int:
    """Run until SIGTERM; returns the exit status."""
    freeze_startup_objects()
    # What goes wrong is said once by the SDK, and not at each attempt by the client.
    logging.getLogger("mqtt").setLevel(logging.CRITICAL)
    # What was read waits for room: the broker keeps it meanwhile.
    return run_sensor(handler, when_full=WhenFull.BLOCK)


if __name__ == "__main__":
    raise SystemExit(main())
