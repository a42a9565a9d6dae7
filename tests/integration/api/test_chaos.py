"""Whatever is killed, every accepted event is stored once and leaves; tests/soak does it with 100,000 events."""

from pathlib import Path

import pytest
from support.event_chaos import go_through, judge
from support.postgres import PostgresServer

pytestmark = pytest.mark.nats


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_every_accepted_event_is_stored_once_and_leaves(tmp_path: Path, kind: str) -> None:
    postgres = PostgresServer() if kind == "postgresql" else None
    try:
        if postgres is not None:
            postgres.start()
        outcome = await go_through(tmp_path, postgres=postgres, events=2000, kills=1, seed=6)
    finally:
        if postgres is not None:
            postgres.remove()
    judge(outcome)
    assert len(outcome.stored) >= 2000
    assert set(outcome.kills) == {"api", "nats"} | ({"database"} if postgres is not None else set())
    assert outcome.again > 0
