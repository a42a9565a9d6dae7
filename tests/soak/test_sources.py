"""20,000 messages for each sensor that reads a queue: killed ten times, its broker twice, the API away. It needs no cluster."""

import dataclasses
import os
from pathlib import Path
from typing import Literal

import pytest
from support import (
    amqp_queue,
    bucket_objects,
    files_folder,
    http_list,
    kafka_queue,
    mqtt_topic,
    nats_queue,
    postgres_outbox,
    redis_queue,
    sqs_queue,
)
from support.elasticmq_server import PRESENT as HAS_ELASTICMQ
from support.kafka_server import PRESENT as HAS_KAFKA
from support.nats_server import NatsServer
from support.objects_server import PRESENT as HAS_GO
from support.source_chaos import Chaos, judge

from attune_mqtt.config import PREFETCH

CHAOS = Chaos(
    messages=int(os.environ.get("SOAK_MESSAGES", "20000")),
    kills=int(os.environ.get("SOAK_KILLS", "10")),
    restarts=2,
    away=float(os.environ.get("SOAK_AWAY", "30")),
)


async def test_redis(nats_server: NatsServer, tmp_path: Path) -> None:
    outcome = await redis_queue.live_through(tmp_path, nats=nats_server, chaos=CHAOS)
    judge(outcome)
    print(f"\n{outcome.sent} entries, {len(outcome.events)} events, {outcome.kills} kills, {outcome.seconds:.0f} s")


async def test_nats(nats_server: NatsServer, tmp_path: Path) -> None:
    outcome = await nats_queue.live_through(tmp_path, nats=nats_server, chaos=CHAOS)
    judge(outcome)
    print(f"\n{outcome.sent} messages, {len(outcome.events)} events, {outcome.kills} kills, {outcome.seconds:.0f} s")


@pytest.mark.parametrize(("done", "standby"), [("delete", False), ("mark", False), ("delete", True)])
async def test_postgres(
    done: Literal["delete", "mark"], standby: bool, nats_server: NatsServer, tmp_path: Path
) -> None:
    """With a standby, it takes the server's place when that is killed for the first time."""
    outcome = await postgres_outbox.live_through(tmp_path, nats=nats_server, chaos=CHAOS, done=done, standby=standby)
    judge(outcome)
    print(f"\n{outcome.sent} rows, {len(outcome.events)} events, {outcome.kills} kills, {outcome.seconds:.0f} s")


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_amqp(kind: Literal["classic", "quorum"], nats_server: NatsServer, tmp_path: Path) -> None:
    outcome = await amqp_queue.live_through(tmp_path, nats=nats_server, chaos=CHAOS, kind=kind)
    judge(outcome)
    print(f"\n{outcome.sent} messages, {len(outcome.events)} events, {outcome.kills} kills, {outcome.seconds:.0f} s")


@pytest.mark.parametrize(("version", "naming"), [("5", {"idProperty": "n"}), ("3.1.1", {"idField": "n"})])
async def test_mqtt(version: str, naming: dict[str, str], nats_server: NatsServer, tmp_path: Path) -> None:
    outcome, _ = await mqtt_topic.live_through(tmp_path, nats=nats_server, chaos=CHAOS, version=version, **naming)
    judge(outcome)
    print(f"\n{outcome.sent} messages, {len(outcome.events)} events, {outcome.kills} kills, {outcome.seconds:.0f} s")


async def test_mqtt_without_names(nats_server: NatsServer, tmp_path: Path) -> None:
    outcome, topic = await mqtt_topic.live_through(tmp_path, nats=nats_server, chaos=CHAOS, version="5")
    doubled = mqtt_topic.judge_unnamed(outcome, topic, restarts=CHAOS.restarts, prefetch=PREFETCH)
    print(
        f"\n{outcome.sent} messages, {len(topic.repeated)} sent again, {len(outcome.events)} events, {doubled} doubled, "
        f"{outcome.kills} kills, {outcome.seconds:.0f} s"
    )


async def test_files(nats_server: NatsServer, tmp_path: Path) -> None:
    outcome = await files_folder.live_through(tmp_path, nats=nats_server, chaos=CHAOS)
    judge(outcome)
    print(f"\n{outcome.sent} files, {len(outcome.events)} events, {outcome.kills} kills, {outcome.seconds:.0f} s")


async def test_http(nats_server: NatsServer, tmp_path: Path) -> None:
    outcome = await http_list.live_through(tmp_path, nats=nats_server, chaos=CHAOS)
    judge(outcome)
    print(f"\n{outcome.sent} items, {len(outcome.events)} events, {outcome.kills} kills, {outcome.seconds:.0f} s")


@pytest.mark.skipif(not HAS_KAFKA, reason="needs Java and Maven")
@pytest.mark.parametrize("replicas", [1, 2])
async def test_kafka(replicas: int, nats_server: NatsServer, tmp_path: Path) -> None:
    """With two replicas, the second one comes, leaves, comes and is killed, three times: partitions move each time."""
    chaos = CHAOS if replicas == 1 else dataclasses.replace(CHAOS, comings=12)
    outcome = await kafka_queue.live_through(tmp_path, nats=nats_server, chaos=chaos, partitions=4)
    judge(outcome, lanes=4)
    print(f"\n{outcome.sent} records, {len(outcome.events)} events, {outcome.kills} kills, {outcome.seconds:.0f} s")


@pytest.mark.skipif(not HAS_ELASTICMQ, reason="needs Java and Maven")
@pytest.mark.parametrize("restarts", [0, CHAOS.restarts])
async def test_sqs(restarts: int, nats_server: NatsServer, tmp_path: Path) -> None:
    """A queue with an order in each of eight groups. ElasticMQ itself loses the order when it is restarted."""
    chaos = dataclasses.replace(CHAOS, restarts=restarts)
    outcome = await sqs_queue.live_through(tmp_path, nats=nats_server, chaos=chaos)
    judge(outcome, lanes=outcome.sent if restarts else sqs_queue.GROUPS)
    print(f"\n{outcome.sent} messages, {len(outcome.events)} events, {outcome.kills} kills, {outcome.seconds:.0f} s")


@pytest.mark.skipif(not HAS_GO, reason="needs Go")
@pytest.mark.parametrize("order", ["time", "name"])
async def test_s3(order: str, nats_server: NatsServer, tmp_path: Path) -> None:
    outcome = await bucket_objects.live_through(tmp_path, nats=nats_server, chaos=CHAOS, order=order)
    judge(outcome)
    print(f"\n{outcome.sent} objects, {len(outcome.events)} events, {outcome.kills} kills, {outcome.seconds:.0f} s")
