"""The reference: reads so many messages with the sensor's client, acknowledges them, and keeps nothing. Prints the seconds.

``python bare_source.py redis|nats|amqp|mqtt|kafka|postgres|sqs URL COUNT``; what is read is named as in ``bench_sources.py``.
"""

import asyncio
import sys
import time
from typing import Any

GROUP = "bare"
#: What the sensors ask for at most.
_REDIS_BATCH = 500
_NATS_BATCH = 256
_AMQP_PREFETCH = 200
_KAFKA_BATCH = 500
_POSTGRES_BATCH = 500
_SQS_RECEIVERS = 10


async def read_redis(url: str, count: int) -> float:
    """A group of a stream."""
    from redis.asyncio import Redis

    redis: Any = Redis.from_url(url, single_connection_client=True)
    began = time.perf_counter()
    left = count
    while left > 0:
        answer = await redis.xreadgroup(GROUP, "bare", {"orders": ">"}, count=_REDIS_BATCH, block=2000)
        [(_, entries)] = answer.items() if isinstance(answer, dict) else answer
        if entries and isinstance(entries[0], list):
            entries = [entry for group in entries for entry in group]
        await redis.xack("orders", GROUP, *(identifier for identifier, _ in entries))
        left -= len(entries)
    took = time.perf_counter() - began
    await redis.aclose()
    return took


async def read_nats(url: str, count: int) -> float:
    """A durable consumer of a stream."""
    import nats

    connection = await nats.connect(url)
    subscription = await connection.jetstream().pull_subscribe_bind(GROUP, "ORDERS")
    began = time.perf_counter()
    left = count
    while left > 0:
        messages = await subscription.fetch(min(_NATS_BATCH, left), timeout=10)
        for message in messages:
            await message.ack()
        left -= len(messages)
    await connection.flush()
    took = time.perf_counter() - began
    await connection.close()
    return took


async def read_amqp(url: str, count: int) -> float:
    """A queue."""
    import aiormq

    connection = await aiormq.connect(url)
    channel = await connection.channel(publisher_confirms=False)
    await channel.basic_qos(prefetch_count=_AMQP_PREFETCH)
    ended = asyncio.Event()
    left = count

    async def receive(message: Any) -> None:
        nonlocal left
        await channel.basic_ack(message.delivery_tag, wait=False)
        left -= 1
        if left == 0:
            ended.set()

    began = time.perf_counter()
    await channel.basic_consume(GROUP, receive)
    await ended.wait()
    await channel.queue_declare(GROUP, passive=True)  # the broker has all acknowledgements
    took = time.perf_counter() - began
    await connection.close()
    return took


async def read_mqtt(url: str, count: int) -> float:
    """A session that has a topic already."""
    from urllib.parse import urlsplit

    import aiomqtt

    at = urlsplit(url)
    began = time.perf_counter()
    async with aiomqtt.Client(
        at.hostname or "",
        at.port or 0,
        username=at.username,
        password=at.password,
        identifier=GROUP,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
    ) as client:
        left = count
        async for _ in client.messages:
            left -= 1
            if left == 0:
                break
    return time.perf_counter() - began


async def read_kafka(url: str, count: int) -> float:
    """A topic, from its beginning. The time counts from the first batch: a group takes a while to form."""
    from confluent_kafka import Consumer

    consumer = Consumer(
        {"bootstrap.servers": url, "group.id": GROUP, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["orders"])
    read, first, began = 0, 0, 0.0
    while read < count:
        messages = consumer.consume(_KAFKA_BATCH, 1.0)
        if not messages:
            continue
        consumer.commit(message=messages[-1], asynchronous=False)
        read += len(messages)
        if not first:
            first, began = read, time.perf_counter()
    took = time.perf_counter() - began
    consumer.close()
    return took * count / (count - first)


async def read_postgres(url: str, count: int) -> float:
    """A table whose rows are deleted."""
    import asyncpg

    connection = await asyncpg.connect(url)
    began = time.perf_counter()
    left = count
    while left > 0:
        async with connection.transaction():
            rows = await connection.fetch(
                f"SELECT id, data FROM {GROUP} ORDER BY id LIMIT {_POSTGRES_BATCH} FOR UPDATE SKIP LOCKED"
            )
            await connection.execute(f"DELETE FROM {GROUP} WHERE id = ANY($1::bigint[])", [row["id"] for row in rows])
        left -= len(rows)
    took = time.perf_counter() - began
    await connection.close()
    return took


async def read_sqs(url: str, count: int) -> float:
    """A queue, with as many requests at once as the sensor sends."""
    from aiobotocore.session import AioSession

    at = url.rpartition("/")[0].rpartition("/")[0]
    began = time.perf_counter()
    left = count
    async with AioSession().create_client(
        "sqs", region_name="eu-central-1", endpoint_url=at, aws_access_key_id="k", aws_secret_access_key="s"
    ) as sqs:

        async def take() -> int:
            answer = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
            entries = [
                {"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]}
                for number, each in enumerate(answer.get("Messages", []))
            ]
            if entries:
                await sqs.delete_message_batch(QueueUrl=url, Entries=entries)
            return len(entries)

        while left > 0:
            left -= sum(await asyncio.gather(*(take() for _ in range(_SQS_RECEIVERS))))
    return time.perf_counter() - began


def main() -> None:
    """Read what the arguments say."""
    read = {
        "redis": read_redis,
        "nats": read_nats,
        "amqp": read_amqp,
        "mqtt": read_mqtt,
        "kafka": read_kafka,
        "postgres": read_postgres,
        "sqs": read_sqs,
    }[sys.argv[1]]
    print(asyncio.run(read(sys.argv[2], int(sys.argv[3]))))


if __name__ == "__main__":
    main()
