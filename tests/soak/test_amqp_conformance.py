"""The conformance kit's checks of the AMQP sensor, beside a real RabbitMQ. It needs no cluster, and takes a minute or two."""

import asyncio
from pathlib import Path

import pytest
from support.rabbitmq_server import RabbitServer
from support.source_conformance import assert_conforms

pytestmark = pytest.mark.nats

#: Makes the queue of each rule and sends a message to it.
SEND = """
import asyncio, time
import aiormq
async def publish(queues):
    connection = await aiormq.connect(os.environ["AMQP_URL"])
    try:
        channel = await connection.channel()
        for queue in queues:
            await channel.queue_declare(queue, durable=True)
            await channel.basic_publish(str(time.time()).encode(), routing_key=queue)
    finally:
        await connection.close()
def send(rules):
    asyncio.run(publish([rule["queue"] for rule in rules if "queue" in rule]))
"""


async def test_the_amqp_sensor_conforms(tmp_path: Path) -> None:
    rabbit = RabbitServer(tmp_path / "rabbit")
    rabbit.place_password(tmp_path / "secrets")
    await asyncio.to_thread(rabbit.start)
    try:
        await assert_conforms(
            tmp_path,
            module="attune_amqp",
            trigger_type="core.amqpqueue",
            parameters={"queue": "$rule"},
            bad_parameters={"queue": "q", "server": "unknown"},
            occurrence="id",
            config={"servers": {"default": rabbit.access}},
            send=SEND,
            AMQP_URL=rabbit.url_with_credentials,
            ATTUNE_SECRETS_DIR=str(tmp_path / "secrets"),
        )
    finally:
        await asyncio.to_thread(rabbit.stop)
