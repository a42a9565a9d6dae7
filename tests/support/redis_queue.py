"""A stream of Redis as something that a sensor reads, and its sensor in trouble."""

import contextlib
from pathlib import Path
from typing import Any, Final

from redis.exceptions import ResponseError
from support import source_chaos
from support.eventually import eventually
from support.nats_server import NatsServer
from support.redis_server import RedisServer
from support.source_chaos import Chaos, Outcome, ServerQueue

from attune_contract.identity import SensorRef

REF = SensorRef("attune-system", "core.redis")
TYPE = "core.redisstream"
STREAM = "orders"
#: In which the sensor reads.
GROUP = f"attune.{REF.namespace}.{REF.name}"
#: Milliseconds since 1970, as in ids that Redis makes.
_FIRST_ID: Final = 1_764_298_800_000


class RedisQueue(ServerQueue[RedisServer]):
    """A stream that the sensor's group reads."""

    def make(self) -> None:
        """Nothing: the sensor makes the stream with its group."""

    def send(self, numbers: range) -> None:
        """Add entries. Their ids are chosen here, so that one whose answer was lost is not added twice."""
        left = list(numbers)

        def sent() -> bool:
            with contextlib.closing(self.server.client()) as client:
                while left:
                    try:
                        client.xadd(STREAM, {"data": f'{{"n": {left[0]}}}'}, id=f"{_FIRST_ID + left[0]}-0")
                    except ResponseError as error:
                        if "equal or smaller" not in str(error):
                            raise
                    left.pop(0)
            return True

        eventually(sent, within=120, what="Redis takes the entries")

    def unacknowledged(self) -> int:
        with contextlib.closing(self.server.client()) as client:
            groups: Any = client.xinfo_groups(STREAM)
            [group] = [each for each in groups if each["name"].decode() == GROUP]
            newer: Any = client.xrange(STREAM, min=f"({group['last-delivered-id'].decode()}", count=1)
        return int(group["pending"]) + len(newer)


async def live_through(directory: Path, *, nats: NatsServer, chaos: Chaos) -> Outcome:
    """Send messages and let things fail; returns what became of them."""
    server = RedisServer(directory / "redis")
    return await source_chaos.live_through(
        directory,
        RedisQueue(server),
        module="attune_redis",
        ref=REF,
        trigger_type=TYPE,
        config={"servers": {"default": {"url": server.url}}},
        parameters={"stream": STREAM, "body": "data"},
        nats=nats,
        chaos=chaos,
    )
