"""The Redis sensor while everything around it fails: for an integration test and for a soak."""

import asyncio
from pathlib import Path

from support.api_process import ApiProcess
from support.nats_server import NatsServer
from support.redis_server import RedisQueue, RedisServer
from support.source_chaos import Chaos, Outcome, go_through, sensor_of

from attune_contract.identity import SensorRef

REF = SensorRef("attune-system", "core.redis")
TYPE = "core.redisstream"


async def live_through(directory: Path, *, nats: NatsServer, chaos: Chaos) -> Outcome:
    """Send messages and let things fail; returns what became of them."""
    api = ApiProcess(directory / "api")
    redis = RedisServer(directory / "redis")
    await asyncio.to_thread(api.start)
    await asyncio.to_thread(redis.start)
    try:
        sensor = sensor_of(
            "attune_redis",
            directory / "sensor",
            api=api,
            nats=nats,
            config={"servers": {"default": {"url": redis.url}}},
            ref=REF,
            trigger_type=TYPE,
        )
        queue = RedisQueue(redis, stream="orders", group=f"attune.{REF.namespace}.{REF.name}")
        return await go_through(chaos, queue, sensor, api, parameters={"stream": "orders", "body": "data"})
    finally:
        await asyncio.to_thread(redis.stop)
        await asyncio.to_thread(api.stop)
