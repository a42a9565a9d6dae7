"""The API is away under 200 events a second, and the sensor is killed meanwhile. Ten minutes of it: tests/soak."""

from pathlib import Path

import pytest
from support.api_outage import go_through, judge
from support.nats_server import NatsServer

pytestmark = pytest.mark.nats


async def test_api_away_and_sensor_killed_lose_nothing(nats_server: NatsServer, tmp_path: Path) -> None:
    judge(await go_through(tmp_path, nats=nats_server, seconds=12))
