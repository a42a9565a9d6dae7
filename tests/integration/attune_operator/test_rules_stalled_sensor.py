"""A sensor that stops reading: seconds here, a minute in `make soak`."""

from pathlib import Path

import pytest
from support.nats_server import NatsServer
from support.stalled_sensor import go_through, judge

pytestmark = pytest.mark.nats


async def test_a_sensor_that_is_stopped_for_some_seconds(nats_server: NatsServer, tmp_path: Path) -> None:
    judge(await go_through(tmp_path, nats=nats_server, seconds=7))
