"""A sensor that reads nothing for a minute, while its rules change. It needs no cluster."""

from pathlib import Path

from support.nats_server import NatsServer
from support.stalled_sensor import go_through, judge


async def test_a_minute_without_reading(nats_server: NatsServer, tmp_path: Path) -> None:
    outcome = await go_through(tmp_path, nats=nats_server, seconds=60)
    judge(outcome)
    print(
        f"\n{outcome.changes} changes while the sensor was stopped; all sides agreed {outcome.caught_up:.1f} s after it went on"
    )
