"""Streams as defined, and a publisher that compares, on a real NATS server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import nats.js.errors
import pytest
from nats.js import api
from support.eventually import until
from support.nats_server import NatsServer

from attune_contract import subjects
from attune_kit.nats.connection import NatsConnection, NatsEndpoint, open_connection
from attune_operator.streams.definitions import (
    StreamUnusableError,
    acks_stream,
    differing,
    ensure_stream,
    history_stream,
    rules_stream,
)
from attune_operator.streams.publisher import (
    ConnectionLostError,
    Publisher,
    PublishError,
    StreamGoneError,
    WrongSequenceError,
)

pytestmark = pytest.mark.nats

STREAM = subjects.RULES_STREAM


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[NatsConnection]:
    async with open_connection(NatsEndpoint(url=nats_server.url)) as opened:
        yield opened


@contextlib.asynccontextmanager
async def publishing(connection: NatsConnection, **options: Any) -> AsyncIterator[Publisher]:
    publisher = Publisher(connection=connection, **options)
    await publisher.start()
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionLostError):
            await task


async def send(
    publisher: Publisher, subject: str, body: bytes = b"x", expected: int | None = None
) -> int | PublishError:
    answer: asyncio.Future[int | PublishError] = asyncio.get_running_loop().create_future()
    await publisher.publish(
        subject=subject, body=body, headers={"a": "b"}, expected_sequence=expected, completion=answer.set_result
    )
    async with asyncio.timeout(150):
        return await answer


def subject(number: int, sensor: str = "timer") -> str:
    return f"attune.rules.default.{sensor}.uid-{number}"


class TestDefinitions:
    async def test_streams_are_made_as_defined_and_then_left_alone(self, connection: NatsConnection) -> None:
        for config in (
            rules_stream(replicas=1),
            acks_stream(replicas=1),
            history_stream(replicas=1, per_rule=50, max_age=3600),
        ):
            made = await ensure_stream(connection.jetstream, config)
            again = await ensure_stream(connection.jetstream, config)
            assert made.created == again.created
            info = await connection.jetstream.stream_info(config.name)
            assert differing(desired=config, present=info.config) == {}

    async def test_settings_that_somebody_changed_are_put_right_and_messages_kept(
        self, connection: NatsConnection
    ) -> None:
        config = rules_stream(replicas=1)
        made = await ensure_stream(connection.jetstream, config)
        await connection.jetstream.publish(subject(1), b"kept")
        await connection.jetstream.update_stream(
            config.evolve(max_msgs_per_subject=5, max_age=60, allow_rollup_hdrs=False, description="mine")
        )
        corrected = await ensure_stream(connection.jetstream, config)
        info = await connection.jetstream.stream_info(STREAM)
        assert differing(desired=config, present=info.config) == {}
        assert (corrected.created, corrected.messages) == (made.created, 1)

    async def test_a_kind_of_storage_that_cannot_be_changed_is_said_clearly(self, connection: NatsConnection) -> None:
        config = rules_stream(replicas=1)
        await connection.jetstream.add_stream(config.evolve(storage=api.StorageType.MEMORY))
        with pytest.raises(StreamUnusableError, match="nats stream rm ATTUNE_RULES"):
            await ensure_stream(connection.jetstream, config)

    async def test_replicas_that_a_single_server_cannot_keep_are_said_clearly(self, connection: NatsConnection) -> None:
        with pytest.raises(nats.js.errors.APIError, match="replicas"):
            await ensure_stream(connection.jetstream, rules_stream(replicas=3))


class TestPublisher:
    async def test_a_write_is_taken_only_over_what_was_seen(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        async with publishing(connection) as publisher:
            assert await send(publisher, subject(1), expected=0) == 1
            assert isinstance(await send(publisher, subject(1), expected=0), WrongSequenceError)
            assert await send(publisher, subject(1), expected=1) == 2
            assert isinstance(await send(publisher, subject(1), expected=1), WrongSequenceError)
            assert await send(publisher, subject(2), expected=0) == 3
            assert await send(publisher, subject(2)) == 4

    async def test_a_subject_that_no_stream_takes_is_told(self, connection: NatsConnection) -> None:
        async with publishing(connection) as publisher:
            assert isinstance(await send(publisher, subject(1)), StreamGoneError)

    async def test_a_message_that_the_stream_refuses_is_told(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        async with publishing(connection) as publisher:
            refused = await send(publisher, subject(1), body=b"x" * 600_000)
        assert isinstance(refused, PublishError)
        assert "maximum" in str(refused)

    async def test_everything_in_flight_is_told_when_the_connection_ends(
        self, connection: NatsConnection, nats_server: NatsServer
    ) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        outcomes: list[int | PublishError] = []
        async with publishing(connection) as publisher:
            nats_server.kill()
            sent = 0
            with contextlib.suppress(ConnectionLostError):
                for number in range(100):
                    await publisher.publish(
                        subject=subject(number),
                        body=b"x",
                        headers={},
                        expected_sequence=None,
                        completion=outcomes.append,
                    )
                    sent += 1
            await until(lambda: len(outcomes) == sent)
            assert publisher.in_flight == 0
            assert all(isinstance(outcome, ConnectionLostError) for outcome in outcomes)
            with pytest.raises(ConnectionLostError):
                await send(publisher, subject(1))

    async def test_no_more_messages_are_in_flight_than_allowed(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        most = 0
        async with publishing(connection, max_in_flight=8) as publisher:
            for number in range(200):
                await publisher.publish(
                    subject=subject(number), body=b"x", headers={}, expected_sequence=0, completion=lambda _: None
                )
                most = max(most, publisher.in_flight)
            await publisher.drained()
        assert most == 8

    async def test_an_answer_that_never_comes_ends_the_session(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        publisher = Publisher(connection=connection, answer_timeout=0.2)
        await publisher.start()
        publisher._prefix = "nobody.listens.here"
        outcomes: list[int | PublishError] = []
        await publisher.publish(
            subject=subject(1), body=b"x", headers={}, expected_sequence=None, completion=outcomes.append
        )
        with pytest.raises(ConnectionLostError, match="did not answer"):
            async with asyncio.timeout(150):
                await publisher.run()
        assert isinstance(outcomes[0], ConnectionLostError)
