"""100,000 events from 4 senders, with the API, its database and NATS killed at random. It needs no cluster."""

import os
from pathlib import Path

import pytest
from support.event_chaos import go_through, judge
from support.postgres import PostgresServer

EVENTS = int(os.environ.get("SOAK_CHAOS_EVENTS", "100000"))
KILLS = int(os.environ.get("SOAK_CHAOS_KILLS", "8"))
SEED = int(os.environ.get("SOAK_CHAOS_SEED", "1"))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_every_accepted_event_is_stored_once_and_leaves(tmp_path: Path, kind: str) -> None:
    postgres = PostgresServer() if kind == "postgresql" else None
    try:
        if postgres is not None:
            postgres.start()
        outcome = await go_through(tmp_path, postgres=postgres, events=EVENTS, kills=KILLS, seed=SEED)
    finally:
        if postgres is not None:
            postgres.remove()
    judge(outcome)
    assert len(outcome.stored) >= EVENTS
    print(
        f"\n{kind}: {len(outcome.stored)} events in {outcome.seconds:.0f} s, each stored once and in the stream "
        f"({len(outcome.streamed)} messages), after {dict(outcome.kills)} kills and {outcome.again} requests sent again"
    )
