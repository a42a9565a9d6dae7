"""How many messages a second a sensor of queues stores: one replica, one rule, the real API on SQLite, a real broker. Beside it
a consumer with the same client that acknowledges and keeps nothing. Both read what waits in the broker already.

``BENCH_SOURCES_MESSAGES`` is how many are read (20,000 unless given), ``BENCH_SOURCES_ROUNDS`` how often (1), and
``BENCH_SOURCES_KINDS`` what (``redis,nats,amqp,mqtt,kafka,postgres,sqs``). With ``BENCH_SOURCES_PROFILE`` the sensors run
under cProfile, and leave their figures in that folder; rates mean nothing then.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import nats
from bare_source import GROUP
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from support import amqp_queue, kafka_queue, mqtt_topic, nats_queue, postgres_outbox, redis_queue, sqs_queue
from support.api_process import ApiProcess
from support.elasticmq_server import ElasticMq
from support.eventually import until
from support.kafka_server import KafkaServer
from support.mosquitto_server import MosquittoServer
from support.nats_server import NatsServer
from support.postgres import PostgresServer
from support.process_figures import cpu_seconds
from support.process_memory import now_mib, peak_mib
from support.rabbitmq_server import RabbitServer
from support.redis_server import RedisServer
from support.sensor_process import SensorProcess, newest_seq, serve, stored_events
from support.source_chaos import number_of, sensor_of

from attune_contract.identity import SensorRef
from attune_kafka.parameters import own_group
from attune_mqtt.parameters import Subscription, client_id

BARE = Path(__file__).parent / "bare_source.py"
MESSAGES = int(os.environ.get("BENCH_SOURCES_MESSAGES", "20000"))
ROUNDS = int(os.environ.get("BENCH_SOURCES_ROUNDS", "1"))
KINDS = os.environ.get("BENCH_SOURCES_KINDS", "redis,nats,amqp,mqtt,kafka,postgres,sqs").split(",")
PROFILE = os.environ.get("BENCH_SOURCES_PROFILE")
LOWEST = 0.3
LARGEST_MIB = 90.0
_PART = 1000


@dataclass(frozen=True)
class Stage:
    """A broker that runs, with an empty queue for the sensor and one for the reference.

    Attributes:
        url: where it is, with credentials.
        send: put messages with these numbers into both.
        left: how many messages the sensor has not acknowledged.
        ref, trigger_type, module, config, parameters, variables: the sensor's.
        ordered: whether the broker keeps an order.
    """

    url: str
    send: Callable[[range], Awaitable[None]]
    left: Callable[[], int]
    ref: SensorRef
    trigger_type: str
    module: str
    config: dict[str, Any]
    parameters: dict[str, Any]
    variables: dict[str, str]
    ordered: bool = True


def body(number: int) -> bytes:
    """About 200 bytes of JSON."""
    return f'{{"n": {number}, "customer": "c-{number % 997}", "text": "{"x" * 150}"}}'.encode()


@contextlib.asynccontextmanager
async def redis_stage(directory: Path) -> AsyncIterator[Stage]:
    """A Redis server that keeps what it confirms."""
    server = RedisServer(directory / "redis")
    await asyncio.to_thread(server.start)
    queue = redis_queue.RedisQueue(server)

    def add(numbers: range) -> None:
        with contextlib.closing(server.client()) as client, client.pipeline(transaction=False) as pipeline:
            for number in numbers:
                pipeline.xadd(redis_queue.STREAM, {"data": body(number)})
            pipeline.execute()

    async def send(numbers: range) -> None:
        await asyncio.to_thread(add, numbers)

    try:
        with contextlib.closing(server.client()) as client:
            for each in (redis_queue.GROUP, GROUP):
                client.xgroup_create(redis_queue.STREAM, each, id="0", mkstream=True)
        yield Stage(
            url=server.url,
            send=send,
            left=queue.unacknowledged,
            ref=redis_queue.REF,
            trigger_type=redis_queue.TYPE,
            module="attune_redis",
            config={"servers": {"default": {"url": server.url}}},
            parameters={"stream": redis_queue.STREAM, "body": "data"},
            variables={},
        )
    finally:
        await asyncio.to_thread(server.stop)


@contextlib.asynccontextmanager
async def nats_stage(directory: Path) -> AsyncIterator[Stage]:
    """A NATS server of its own, beside Attune's."""
    server = NatsServer(directory / "broker")
    await asyncio.to_thread(server.start)
    queue = nats_queue.NatsQueue(server)

    async def send(numbers: range) -> None:
        connection = await nats.connect(server.url)
        try:
            jetstream = connection.jetstream(publish_async_max_pending=2 * _PART)
            acks = [await jetstream.publish_async("orders.new", body(number)) for number in numbers]
            await asyncio.gather(*acks)
        finally:
            await connection.close()

    try:
        await asyncio.to_thread(queue.make)
        connection = await nats.connect(server.url)
        for each in (nats_queue.CONSUMER, GROUP):
            await connection.jetstream().add_consumer(
                nats_queue.STREAM, durable_name=each, ack_policy="explicit", max_ack_pending=1024
            )
        await connection.close()
        yield Stage(
            url=server.url,
            send=send,
            left=queue.unacknowledged,
            ref=nats_queue.REF,
            trigger_type=nats_queue.TYPE,
            module="attune_nats",
            config={"servers": {"default": {"url": server.url}}},
            parameters={"stream": nats_queue.STREAM, "consumer": nats_queue.CONSUMER},
            variables={},
        )
    finally:
        await asyncio.to_thread(server.stop)


@contextlib.asynccontextmanager
async def amqp_stage(directory: Path) -> AsyncIterator[Stage]:
    """A RabbitMQ server with two classic queues; messages have names."""
    import aiormq

    server = RabbitServer(directory / "rabbit")
    await asyncio.to_thread(server.start)
    server.place_password(directory / "secrets")
    queue = amqp_queue.AmqpQueue(server, "classic")

    async def send(numbers: range) -> None:
        async def publish(channel: Any) -> None:
            for name in (amqp_queue.QUEUE, GROUP):
                properties = [aiormq.spec.Basic.Properties(delivery_mode=2, message_id=str(each)) for each in numbers]
                await asyncio.gather(
                    *(
                        channel.basic_publish(body(number), routing_key=name, properties=its)
                        for number, its in zip(numbers, properties, strict=True)
                    )
                )

        await server.work(publish)

    try:
        for each in (amqp_queue.QUEUE, GROUP):
            await server.declare(each, **{"x-queue-type": "classic"})
        yield Stage(
            url=server.url_with_credentials,
            send=send,
            left=queue.unacknowledged,
            ref=amqp_queue.REF,
            trigger_type=amqp_queue.TYPE,
            module="attune_amqp",
            config={"servers": {"default": server.access}},
            parameters={"queue": amqp_queue.QUEUE},
            variables={"ATTUNE_SECRETS_DIR": str(directory / "secrets")},
        )
    finally:
        await asyncio.to_thread(server.stop)


@contextlib.asynccontextmanager
async def mqtt_stage(directory: Path) -> AsyncIterator[Stage]:
    """A Mosquitto with two sessions, one for each of two topics; messages have names."""
    import aiomqtt

    server = MosquittoServer(directory / "mosquitto")
    await asyncio.to_thread(server.start)
    server.place_password(directory / "secrets")
    sensors = client_id(str(mqtt_topic.REF), Subscription(server="default", topic=mqtt_topic.TOPIC, id_property="n"))

    def publish(numbers: range) -> None:
        with server.client() as client:
            for topic in (mqtt_topic.TOPIC, GROUP):
                for number in numbers:
                    server.publish(client, topic, body(number), UserProperty=("n", str(number)))

    async def send(numbers: range) -> None:
        await asyncio.to_thread(publish, numbers)

    try:
        for session, topic in ((sensors, mqtt_topic.TOPIC), (GROUP, GROUP)):
            kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            kept.SessionExpiryInterval = 3600
            async with aiomqtt.Client(
                "127.0.0.1",
                server.plain_port,
                username=server.username,
                password=server.password,
                identifier=session,
                protocol=aiomqtt.ProtocolVersion.V5,
                clean_start=False,
                properties=kept,
            ) as client:
                await client.subscribe(topic, qos=1)
        yield Stage(
            url=server.url_with_credentials,
            send=send,
            left=lambda: server.kept() - MESSAGES,
            ref=mqtt_topic.REF,
            trigger_type=mqtt_topic.TYPE,
            module="attune_mqtt",
            config={"servers": {"default": server.access}},
            parameters={"topic": mqtt_topic.TOPIC, "idProperty": "n"},
            variables={"ATTUNE_SECRETS_DIR": str(directory / "secrets")},
        )
    finally:
        await asyncio.to_thread(server.stop)


@contextlib.asynccontextmanager
async def kafka_stage(directory: Path) -> AsyncIterator[Stage]:
    """A broker with a topic of one partition, of which both groups have all."""
    server = KafkaServer(directory / "kafka")
    await asyncio.to_thread(server.start)
    group = own_group(str(kafka_queue.REF), kafka_queue.TOPIC, "earliest")

    async def send(numbers: range) -> None:
        await asyncio.to_thread(server.send, kafka_queue.TOPIC, *(body(number) for number in numbers))

    try:
        await asyncio.to_thread(server.make, kafka_queue.TOPIC)
        yield Stage(
            url=server.address,
            send=send,
            left=lambda: server.behind(kafka_queue.TOPIC, group),
            ref=kafka_queue.REF,
            trigger_type=kafka_queue.TYPE,
            module="attune_kafka",
            config={"servers": {"default": {"bootstrapServers": server.address}}},
            parameters={"topic": kafka_queue.TOPIC, "from": "earliest"},
            variables={},
        )
    finally:
        await asyncio.to_thread(server.stop)


@contextlib.asynccontextmanager
async def postgres_stage(directory: Path) -> AsyncIterator[Stage]:
    """A PostgreSQL server with two tables; rows are deleted when they are done. What it confirms is on the disk."""
    server = PostgresServer(fsync="on")
    await asyncio.to_thread(server.start)
    url = server.url("postgres")
    outbox = postgres_outbox.Outbox(server)

    async def send(numbers: range) -> None:
        connection = await asyncpg.connect(url)
        try:
            rows = [(number, body(number).decode()) for number in numbers]
            for table in (postgres_outbox.TABLE, GROUP):
                await connection.executemany(f"INSERT INTO {table} (id, data) VALUES ($1, $2)", rows)
        finally:
            await connection.close()

    try:
        await asyncio.to_thread(outbox.make)
        await asyncio.to_thread(server.query, f"CREATE TABLE {GROUP} (LIKE {postgres_outbox.TABLE} INCLUDING ALL)")
        yield Stage(
            url=url,
            send=send,
            left=outbox.unacknowledged,
            ref=postgres_outbox.REF,
            trigger_type=postgres_outbox.TYPE,
            module="attune_postgres",
            config={"servers": {"default": {"url": url}}},
            parameters=postgres_outbox.parameters_of("delete"),
            variables={},
        )
    finally:
        await asyncio.to_thread(server.remove)


@contextlib.asynccontextmanager
async def sqs_stage(directory: Path) -> AsyncIterator[Stage]:
    """An ElasticMQ server with two queues that keep no order."""
    server = ElasticMq(directory / "elasticmq")
    await asyncio.to_thread(server.start)
    server.place_keys(directory / "secrets")
    queue = sqs_queue.SqsQueue(server, name="orders")

    def put(numbers: range) -> None:
        async def use(sqs: Any) -> None:
            for name in (queue.name, GROUP):
                for begin in range(numbers.start, numbers.stop, 10):
                    some = range(begin, min(begin + 10, numbers.stop))
                    entries = [{"Id": str(number), "MessageBody": body(number).decode()} for number in some]
                    answer = await sqs.send_message_batch(QueueUrl=server.url(name), Entries=entries)
                    assert not answer.get("Failed"), answer["Failed"]

        server.work(use)

    async def send(numbers: range) -> None:
        await asyncio.to_thread(put, numbers)

    try:
        for each in (queue.name, GROUP):
            await asyncio.to_thread(server.make, each)
        yield Stage(
            url=server.url(GROUP),
            send=send,
            left=queue.unacknowledged,
            ref=sqs_queue.REF,
            trigger_type=sqs_queue.TYPE,
            module="attune_aws",
            config={"servers": {"default": server.access}},
            parameters={"queue": queue.name},
            variables={"ATTUNE_SECRETS_DIR": str(directory / "secrets")},
            ordered=False,
        )
    finally:
        await asyncio.to_thread(server.stop)


STAGES = {
    "redis": redis_stage,
    "nats": nats_stage,
    "amqp": amqp_stage,
    "mqtt": mqtt_stage,
    "kafka": kafka_stage,
    "postgres": postgres_stage,
    "sqs": sqs_stage,
}


async def bare_rate(kind: str, stage: Stage) -> float:
    """Messages a second of the reference."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(BARE), kind, stage.url, str(MESSAGES), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 600)
    assert process.returncode == 0, "the reference failed"
    return MESSAGES / float(out)


async def sensor_figures(sensor: SensorProcess, api: ApiProcess, stage: Stage) -> dict[str, Any]:
    """The rate from the first events that are found stored to the last, and what it cost."""
    stream = await sensor.stream()
    try:
        await sensor.start()
        async with api.reader() as reader:

            async def all_stored() -> int | None:
                newest = await newest_seq(reader)
                return newest if newest >= MESSAGES else None

            serving = asyncio.create_task(serve(stream, [sensor.rule(1, stage.parameters)], within=60))
            first = await until(partial(newest_seq, reader), within=600, every=0.01)
            began, used, api_used = time.perf_counter(), cpu_seconds(sensor.pid), cpu_seconds(api.process.pid)
            last = await until(all_stored, within=600, every=0.05)
            took = time.perf_counter() - began
            used, api_used = cpu_seconds(sensor.pid) - used, cpu_seconds(api.process.pid) - api_used
            await serving
        await until(lambda: asyncio.to_thread(lambda: stage.left() == 0), within=60, every=0.1)
        found = {
            "per_second": round((last - first) / took),
            "sensor_us_each": round(used / (last - first) * 1e6),
            "api_us_each": round(api_used / (last - first) * 1e6),
            "peak_mib": peak_mib(sensor.pid),
            "after_mib": now_mib(sensor.pid),
        }
        assert await sensor.stop() == 0
        numbers = [number_of(event["payload"]) for event in await stored_events(api)]
        numbers = numbers if stage.ordered else sorted(numbers)
        return {**found, "each_is_one_event_in_order": numbers == list(range(MESSAGES))}
    finally:
        await sensor.kill()
        await stream.close()


async def measure(kind: str, directory: Path) -> dict[str, Any]:
    """One kind of source, and its reference after it."""
    (directory / "nats").mkdir()
    own = NatsServer(directory / "nats")
    own.start()
    api = ApiProcess(directory / "api")
    await asyncio.to_thread(api.start)
    try:
        async with STAGES[kind](directory) as stage:
            for begin in range(0, MESSAGES, _PART):
                await stage.send(range(begin, min(begin + _PART, MESSAGES)))
            sensor = sensor_of(
                stage.module if PROFILE is None else "cProfile",
                directory / "sensor",
                api=api,
                nats=own,
                config=stage.config,
                ref=stage.ref,
                trigger_type=stage.trigger_type,
                arguments=() if PROFILE is None else ("-o", f"{PROFILE}/{kind}.pstats", "-m", stage.module),
                **stage.variables,
            )
            figures = await sensor_figures(sensor, api, stage)
            bare = await bare_rate(kind, stage)
        return {
            **figures,
            "bare_per_second": round(bare),
            "ratio": round(figures["per_second"] / bare, 3),
            "load": round(os.getloadavg()[0], 1),
        }
    finally:
        await asyncio.to_thread(api.stop)
        own.stop()


async def run() -> dict[str, object]:
    """Measure each in turns; the result is, of each, the round with the median ratio."""
    rounds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as name:
                rounds[kind].append(await measure(kind, Path(name)))
    found: dict[str, Any] = {}
    for kind, measured in rounds.items():
        measured.sort(key=lambda each: each["ratio"])
        found[kind] = {**measured[len(measured) // 2], "ratios": [each["ratio"] for each in measured]}
        assert all(each["each_is_one_event_in_order"] for each in measured), kind
    return {
        **found,
        "ratio": min(each["ratio"] for each in found.values()),
        "messages": MESSAGES,
        "as_asked": {kind: each["ratio"] >= LOWEST and each["peak_mib"] <= LARGEST_MIB for kind, each in found.items()},
    }
