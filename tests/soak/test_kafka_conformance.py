"""The conformance kit's checks of the Kafka sensor, beside a real broker. It needs no cluster, and takes a minute or two."""

import asyncio
from pathlib import Path

import pytest
from support.kafka_server import PRESENT, KafkaServer
from support.source_conformance import assert_conforms

pytestmark = [pytest.mark.nats, pytest.mark.skipif(not PRESENT, reason="needs Java and Maven")]

#: Sends a record to the topic of each rule; the broker makes topics that are not there.
SEND = """
import time
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": os.environ["KAFKA"], "log_level": 0})
def send(rules):
    for rule in rules:
        if topic := rule.get("topic"):
            producer.produce(topic, str(time.time()))
    producer.poll(0)
"""


async def test_the_kafka_sensor_conforms(tmp_path: Path) -> None:
    kafka = KafkaServer(tmp_path / "kafka")
    await asyncio.to_thread(kafka.start)
    try:
        await assert_conforms(
            tmp_path,
            module="attune_kafka",
            trigger_type="core.kafkatopic",
            parameters={"topic": "$rule"},
            bad_parameters={"topic": "t", "server": "unknown"},
            occurrence="offset",
            config={"servers": {"default": {"bootstrapServers": kafka.address, "sessionSeconds": 2}}},
            send=SEND,
            KAFKA=kafka.address,
        )
    finally:
        await asyncio.to_thread(kafka.stop)
