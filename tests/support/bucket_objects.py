"""A bucket as something that a sensor lists, and its sensor in trouble."""

import asyncio
from pathlib import Path
from typing import Any, Final

from support.api_process import ApiProcess
from support.elasticmq_server import ElasticMq
from support.eventually import eventually
from support.nats_server import NatsServer
from support.objects_server import ObjectsServer
from support.sensor_process import newest_seq, stored_events
from support.source_chaos import RULES, Chaos, Outcome, ServerQueue, go_through, sensor_of

from attune_contract.identity import SensorRef

REF = SensorRef("attune-system", "core.aws")
TYPE = "core.s3objects"
BUCKET: Final = "inbox"


class BucketObjects(ServerQueue[ObjectsServer]):
    """A bucket, whose objects have numbers as names.

    Args:
        server: has it.
        api: where the events of its objects arrive.
    """

    def __init__(self, server: ObjectsServer, *, api: ApiProcess) -> None:
        super().__init__(server)
        self.sent = 0
        self._api = api

    def make(self) -> None:
        self.server.make(BUCKET)

    def send(self, numbers: range) -> None:
        left = list(numbers)

        async def use(s3: Any) -> None:
            while left:
                # Written again after an answer that was lost, it is the same object.
                await s3.put_object(Bucket=BUCKET, Key=f"{left[0]:08}", Body=b"content")
                left.pop(0)

        def sent() -> bool:
            self.server.work(use)
            return True

        eventually(sent, within=120, what="the S3 server takes the objects")
        self.sent = numbers.stop

    def unacknowledged(self) -> int:
        """Events that are not stored: nothing is acknowledged at a bucket."""
        return asyncio.run(self._missing(self.sent * RULES))

    async def _missing(self, wanted: int) -> int:
        async with self._api.reader() as reader:
            if (newest := await newest_seq(reader)) < wanted:
                return wanted - newest
        # What is stored twice uses a number each time, so there may be fewer.
        return wanted - len(await stored_events(self._api))


async def live_through(directory: Path, *, nats: NatsServer, chaos: Chaos, order: str) -> Outcome:
    """Write objects and let things fail; returns what became of them."""
    api = ApiProcess(directory / "api")
    server = ObjectsServer(directory / "objects")
    ElasticMq.place_keys(directory / "secrets")
    await asyncio.to_thread(api.start)
    try:
        await asyncio.to_thread(server.start)
        bucket = BucketObjects(server, api=api)
        await asyncio.to_thread(bucket.make)
        sensor, replica = (
            sensor_of(
                "attune_aws",
                directory / name,
                api=api,
                nats=nats,
                config={"servers": {"default": server.access}},
                ref=REF,
                trigger_type=TYPE,
                ATTUNE_SECRETS_DIR=str(directory / "secrets"),
            )
            for name in ("sensor", "replica")
        )
        parameters = {"bucket": BUCKET, "order": order, "every": "1s", "from": "beginning"}
        outcome = await go_through(chaos, bucket, sensor, replica, api, parameters=parameters)
    finally:
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(api.stop)
    for event in outcome.events:
        event["payload"]["body"] = {"n": int(event["payload"]["key"])}
    return outcome
