"""Ten minutes without the API, under 200 events a second, with the sensor killed half way. It needs no cluster."""

import os
from pathlib import Path

from support.api_outage import go_through, judge
from support.nats_server import NatsServer

SECONDS = float(os.environ.get("SOAK_OUTAGE_SECONDS", "600"))


async def test_ten_minutes_without_the_api(nats_server: NatsServer, tmp_path: Path) -> None:
    outcome = await go_through(tmp_path, nats=nats_server, seconds=SECONDS)
    judge(outcome)
    assert outcome.events > 190 * SECONDS
    print(f"\n{outcome.events} events, each once and in order, after {SECONDS:.0f} s without the API")
