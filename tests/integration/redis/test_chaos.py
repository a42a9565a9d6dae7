"""The Redis sensor as a process: killed again and again, with Redis killed and the API away, every entry is one event."""

from pathlib import Path

import pytest
from support.nats_server import NatsServer
from support.redis_queue import live_through
from support.source_chaos import Chaos, judge

pytestmark = pytest.mark.nats


async def test_every_entry_is_one_event_of_each_rule(nats_server: NatsServer, tmp_path: Path) -> None:
    chaos = Chaos(messages=400, kills=3)
    outcome = await live_through(tmp_path, nats=nats_server, chaos=chaos)
    judge(outcome)
    assert outcome.kills == chaos.kills + 1
