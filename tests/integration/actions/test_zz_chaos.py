import pytest
from support.actions_chaos import survive
from support.actions_stage import Stage, Target
pytestmark = pytest.mark.nats

@pytest.mark.timeout(1500)
async def test_chaos(stage: Stage, target: Target) -> None:
    found = await survive(stage, target, events=10_000, kills=20, nats_restarts=3, within=600)
    print("\n" + found.shown())
