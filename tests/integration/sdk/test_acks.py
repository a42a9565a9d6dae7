"""Acks reach the stream, whatever happens on the way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import structlog
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_stream import RuleStream, changed, rule_state

from attune_contract import subjects
from attune_contract.messages import AckState
from attune_kit.nats.connection import NatsEndpoint
from attune_kit.nats.connector import NatsConnector
from attune_sensor import Rule
from attune_sensor._acks import AckPublisher
from attune_sensor._metrics import Metrics

pytestmark = pytest.mark.nats


@pytest.fixture
async def stream(nats_server: NatsServer) -> AsyncIterator[RuleStream]:
    writer = RuleStream(nats_server.url)
    await writer.connect()
    yield writer
    await writer.close()


@pytest.fixture
async def acks(nats_server: NatsServer) -> AsyncIterator[AckPublisher]:
    connector = NatsConnector(NatsEndpoint(url=nats_server.url, inbox_prefix="_INBOX_test"))
    publisher = AckPublisher(
        connector=connector,
        prefix="attune.acks.attune-system.core_timer",
        instance="pod-1",
        metrics=Metrics(),
        log=structlog.get_logger(),
    )
    tasks = [asyncio.create_task(connector.run()), asyncio.create_task(publisher.run())]
    yield publisher
    for task in reversed(tasks):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def rule(number: int = 1) -> Rule:
    return Rule(state=rule_state(number), since_us=0)


async def test_ack_says_what_who_and_which_generation(stream: RuleStream, acks: AckPublisher) -> None:
    await stream.make_streams()
    acks.publish(rule(), AckState.REJECTED, "the interval is odd")
    ack = await stream.wait_ack(rule_state(), AckState.REJECTED)
    assert (ack.message, ack.instance, ack.generation) == ("the interval is odd", "pod-1", 1)
    await until(lambda: acks.waiting == 0)


async def test_latest_word_wins(stream: RuleStream, acks: AckPublisher) -> None:
    await stream.make_streams()
    newer = Rule(state=changed(rule_state()), since_us=0)
    acks.publish(rule(), AckState.ACTIVE)
    acks.publish(rule(), AckState.FAILING, "no")
    acks.publish(newer, AckState.ACTIVE)
    await stream.wait_ack(newer.state, AckState.ACTIVE)


async def test_stream_that_is_not_there_yet_is_waited_for(stream: RuleStream, acks: AckPublisher) -> None:
    acks.publish(rule(), AckState.ACTIVE)
    await until(lambda: acks._outage.ongoing)
    await stream.make_streams()
    await stream.wait_ack(rule_state(), AckState.ACTIVE, within=10)


async def test_ten_thousand_acks_all_arrive(stream: RuleStream, acks: AckPublisher) -> None:
    await stream.make_streams()
    for number in range(10_000):
        acks.publish(rule(number), AckState.ACTIVE)
    await until(lambda: acks.waiting == 0, within=30)
    assert await stream.acks_stored() == 10_000


async def test_everything_is_said_again_after_a_reconnect(
    nats_server: NatsServer, stream: RuleStream, acks: AckPublisher
) -> None:
    await stream.make_streams()
    for number in range(100):
        acks.publish(rule(number), AckState.ACTIVE)
    await until(lambda: acks.waiting == 0)
    acks.forget(rule(0).uid)
    nats_server.kill()
    await until(lambda: not acks._connector.connected)
    acks.publish(rule(1), AckState.STOPPED)
    nats_server.wipe()
    nats_server.start()
    await stream.make_streams()
    await stream.wait_ack(rule_state(1), AckState.STOPPED, within=15)
    await until(lambda: acks.waiting == 0, within=15)
    assert await stream.acks_stored() == 99


async def test_refusal_by_the_stream_is_retried(stream: RuleStream, acks: AckPublisher) -> None:
    await stream.make_streams()
    info = await stream.js.stream_info(subjects.ACKS_STREAM)
    info.config.max_msg_size = 1
    await stream.js.update_stream(info.config)
    acks.publish(rule(), AckState.ACTIVE)
    await until(lambda: acks._outage.ongoing)
    info.config.max_msg_size = -1
    await stream.js.update_stream(info.config)
    await stream.wait_ack(rule_state(), AckState.ACTIVE, within=15)
