"""The MQTT sensor as a process: killed again and again, with Mosquitto restarted and the API away, every message is one event."""

from pathlib import Path

import pytest
from support.mqtt_topic import live_through
from support.nats_server import NatsServer
from support.source_chaos import Chaos, judge

pytestmark = pytest.mark.nats


async def test_every_message_with_a_name_is_one_event_of_each_rule(nats_server: NatsServer, tmp_path: Path) -> None:
    chaos = Chaos(messages=400, kills=2)
    outcome, _ = await live_through(tmp_path, nats=nats_server, chaos=chaos, version="5", idProperty="n")
    judge(outcome)
    assert outcome.kills == chaos.kills + 1
