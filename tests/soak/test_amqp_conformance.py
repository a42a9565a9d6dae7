"""The conformance kit's checks of the AMQP sensor, beside a real RabbitMQ. It needs no cluster, and takes a minute or two."""

import asyncio
import sys
from pathlib import Path

import pytest
from support.rabbitmq_server import RabbitServer

from attune_conformance.checks import all_checks
from attune_conformance.profile import Profile
from attune_conformance.runner import Outcome, run_checks

pytestmark = pytest.mark.nats

#: Makes the queue of each rule and sends a message to it, again and again.
SENDER = """
import asyncio, contextlib, json, os, time
import aiormq
async def send():
    connection = await aiormq.connect(os.environ["AMQP_URL"])
    try:
        channel = await connection.channel()
        for rule in json.load(open(os.environ["ATTUNE_CONFORMANCE_RULES_FILE"])):
            if queue := rule["parameters"].get("queue"):
                await channel.queue_declare(queue, durable=True)
                await channel.basic_publish(str(time.time()).encode(), routing_key=queue)
    finally:
        await connection.close()
while True:
    time.sleep(0.2)
    with contextlib.suppress(OSError, ValueError, aiormq.AMQPError):
        asyncio.run(send())
"""


async def test_the_amqp_sensor_conforms(tmp_path: Path) -> None:
    rabbit = RabbitServer(tmp_path / "rabbit")
    rabbit.place_password(tmp_path / "secrets")
    await asyncio.to_thread(rabbit.start)
    try:
        profile = Profile(
            command=(sys.executable, "-m", "attune_amqp"),
            trigger_type="core.amqpqueue",
            parameters={"queue": "$rule"},
            bad_parameters={"queue": "q", "server": "unknown"},
            every=0.5,
            repeatable=False,  # two instances divide the messages among them
            occurrence="id",
            config={"servers": {"default": rabbit.access}},
            environment={
                "AMQP_URL": rabbit.url_with_credentials,
                "ATTUNE_SECRETS_DIR": str(tmp_path / "secrets"),
            },
            slack=40.0,  # a queue is there a moment after its rule
            stimulus=(sys.executable, "-I", "-c", SENDER),
        )
        results = await run_checks(list(all_checks().values()), profile=profile, folder=tmp_path, parallel=10)
    finally:
        await asyncio.to_thread(rabbit.stop)
    good = {Outcome.PASSED, Outcome.NOT_APPLICABLE}
    assert {each.check.name: each.message for each in results if each.outcome not in good} == {}
    assert any(each.outcome is Outcome.PASSED for each in results)
