"""10,000 events while the runner is killed 20 times and NATS restarted; the figures are in docs/soak.md."""

import os
from pathlib import Path

import pytest
from support.actions_chaos import survive
from support.actions_stage import Stage, Target

pytestmark = pytest.mark.nats


@pytest.mark.timeout(3600)
async def test_twenty_kills_lose_no_run(tmp_path: Path) -> None:
    events, kills = int(os.environ.get("EVENTS", "10000")), int(os.environ.get("KILLS", "20"))
    async with Stage(tmp_path) as stage, Target() as target:
        found = await survive(stage, target, events=events, kills=kills, nats_restarts=2, within=1200)
    print(found.shown())
    assert found.runs == events
