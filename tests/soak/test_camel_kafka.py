"""Apache Camel as a bridge (examples/camel/kafka.yaml) between Apache Kafka and the webhook sensor: Camel, the sensor and the
broker are killed while records come. Each record must be one event. It needs Java, Maven and no cluster.
"""

import asyncio
import json
import os
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from support.api_process import ApiProcess
from support.camel import Camel
from support.eventually import until
from support.kafka_server import PRESENT, KafkaServer
from support.nats_server import NatsServer
from support.sensor_process import drained, serve, stored_events
from support.webhook_outage import webhook_process

RECORDS = int(os.environ.get("SOAK_MESSAGES", "5000"))
KILLS = 4
TOKEN = "a-token-of-this-test"

pytestmark = pytest.mark.skipif(not PRESENT, reason="needs Java and Maven")


async def send(kafka: KafkaServer, numbers: range) -> None:
    """To both partitions in turns, in order, each once."""
    records = [{"value": f'{{"n": {number}}}', "partition": number % 2} for number in numbers]
    await asyncio.to_thread(kafka.send_each, "orders", records)


async def reached(api: ApiProcess, number: int) -> bool:
    """Whether so many events are stored."""
    return len(await stored_events(api)) >= number


async def test_each_record_is_one_event(nats_server: NatsServer, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets" / "hooks"
    secrets.mkdir(parents=True)
    (secrets / "orders").write_text(TOKEN)
    kafka = KafkaServer(tmp_path / "kafka", partitions=2)
    with ApiProcess(tmp_path / "api") as api:
        sensor, url = webhook_process(tmp_path, api=api, nats=nats_server, ATTUNE_SECRETS_DIR=str(secrets.parent))
        variables = {"BROKERS": kafka.address, "TOPIC": "orders", "GROUP": "attune", "TOKEN": TOKEN}
        camel = Camel("kafka.yaml", {**variables, "WEBHOOK": f"{url}/orders"}, log=tmp_path / "camel.log")
        stream = await sensor.stream()
        try:
            await asyncio.to_thread(kafka.start)
            await sensor.start()
            auth = {"type": "bearer", "secrets": ["hooks/orders"]}
            rate = {"perSecond": 10_000, "burst": 20_000}
            await serve(stream, [sensor.rule(1, {"path": "/orders", "auth": auth, "rate": rate})], within=60)
            await camel.start()
            part = RECORDS // (KILLS + 1)
            for kill in range(KILLS):
                await send(kafka, range(kill * part, (kill + 1) * part))
                # Some of them were taken, and some were not.
                await until(partial(reached, api, kill * part + part // 4), within=300, every=0.2)
                if kill % 2:
                    await asyncio.to_thread(kafka.kill)
                    await asyncio.to_thread(kafka.start)
                await camel.kill()
                await sensor.kill()
                await camel.start()
                await sensor.start()
            await send(kafka, range(KILLS * part, RECORDS))
            await until(partial(reached, api, RECORDS), within=300, every=1.0)
            await drained(sensor, within=120)
            assert await sensor.stop() == 0
        finally:
            await camel.kill()
            await sensor.kill()
            await asyncio.to_thread(kafka.kill)
            await stream.close()
        numbers = [int(event["payload"]["body"]["n"]) for event in await stored_events(api)]
    times = Counter(numbers)
    in_order = all(one == sorted(one) for one in ([n for n in numbers if n % 2 == p] for p in (0, 1)))
    print("\n" + json.dumps({"records": RECORDS, "kills": KILLS, "events": len(numbers), "in order": in_order,
                             "load": round(os.getloadavg()[0])}))  # fmt: skip
    assert [number for number in range(RECORDS) if times[number] != 1] == []
    assert in_order
