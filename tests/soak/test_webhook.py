"""Ten thousand deliveries while the API goes away, once with a kill of the sensor besides. Figures: docs/soak.md."""

from pathlib import Path

import pytest
from support.nats_server import NatsServer
from support.webhook_outage import go_through, judge


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kill_sensor", [False, True], ids=["API away", "API away and sensor killed"])
async def test_ten_thousand_deliveries(nats_server: NatsServer, tmp_path: Path, kill_sensor: bool) -> None:
    sent, stored = await go_through(tmp_path, nats=nats_server, deliveries=10_000, kill_sensor=kill_sensor)
    print(f"\n{sent.requests} requests, answers {dict(sent.answers)}, {len(stored)} events stored")
    judge(sent, stored, deliveries=10_000)
