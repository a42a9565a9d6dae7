"""Senders that try again, an API that goes away, and a sensor that is killed: each accepted delivery is one event.

Ten thousand of them: tests/soak.
"""

from pathlib import Path

import pytest
from support.nats_server import NatsServer
from support.webhook_outage import go_through, judge

pytestmark = pytest.mark.nats


async def test_each_accepted_delivery_is_one_event(nats_server: NatsServer, tmp_path: Path) -> None:
    sent, stored = await go_through(tmp_path, nats=nats_server, deliveries=1200, kill_sensor=True)
    judge(sent, stored, deliveries=1200)
