"""What the SDK's harness of a sensor under test has got."""

from typing import Any

from attune_sensor.testing import SensorHarness


async def payloads(harness: SensorHarness, number: int) -> list[dict[str, Any]]:
    """The payloads of the next events."""
    return [(await harness.next_event()).payload for _ in range(number)]
