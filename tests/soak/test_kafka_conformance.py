"""The conformance kit's checks of the Kafka sensor, beside a real broker. It needs no cluster, and takes a minute or two."""

import asyncio
import sys
from pathlib import Path

import pytest
from support.kafka_server import PRESENT, KafkaServer

from attune_conformance.checks import all_checks
from attune_conformance.profile import Profile
from attune_conformance.runner import Outcome, run_checks

pytestmark = [pytest.mark.nats, pytest.mark.skipif(not PRESENT, reason="needs Java and Maven")]

#: Sends a record to the topic of each rule, again and again; the broker makes topics that are not there.
SENDER = """
import contextlib, json, os, time
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": os.environ["KAFKA"], "log_level": 0})
while True:
    time.sleep(0.2)
    with contextlib.suppress(OSError, ValueError, BufferError):
        for rule in json.load(open(os.environ["ATTUNE_CONFORMANCE_RULES_FILE"])):
            if topic := rule["parameters"].get("topic"):
                producer.produce(topic, str(time.time()))
        producer.poll(0)
"""


async def test_the_kafka_sensor_conforms(tmp_path: Path) -> None:
    kafka = KafkaServer(tmp_path / "kafka")
    await asyncio.to_thread(kafka.start)
    try:
        profile = Profile(
            command=(sys.executable, "-m", "attune_kafka"),
            trigger_type="core.kafkatopic",
            parameters={"topic": "$rule"},
            bad_parameters={"topic": "t", "server": "unknown"},
            every=0.5,
            repeatable=False,  # two instances divide the partitions among them
            occurrence="offset",
            config={"servers": {"default": {"bootstrapServers": kafka.address, "sessionSeconds": 2}}},
            environment={"KAFKA": kafka.address},
            slack=40.0,  # a topic is there a moment after its rule
            stimulus=(sys.executable, "-I", "-c", SENDER),
        )
        results = await run_checks(list(all_checks().values()), profile=profile, folder=tmp_path, parallel=10)
    finally:
        await asyncio.to_thread(kafka.stop)
    good = {Outcome.PASSED, Outcome.NOT_APPLICABLE}
    assert {each.check.name: each.message for each in results if each.outcome not in good} == {}
    assert any(each.outcome is Outcome.PASSED for each in results)
