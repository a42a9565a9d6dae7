"""Streams as defined, readers that notice what they miss, and a publisher that compares, on a real NATS server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats.js.errors
import pytest
from nats.js import api
from support.nats_server import NatsServer
from support.until import until

from attune_contract import subjects
from attune_operator.streams.connection import NatsConnection, NatsEndpoint, NatsUnavailable, open_connection
from attune_operator.streams.definitions import (
    StreamUnusable,
    acks_stream,
    differing,
    ensure_stream,
    history_stream,
    rules_stream,
)
from attune_operator.streams.publisher import ConnectionLost, Publisher, PublishError, StreamGone, WrongSequence
from attune_operator.streams.reader import Delivery, ReaderLost, StreamMessage, StreamReader, read_snapshot

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
        with contextlib.suppress(asyncio.CancelledError, ConnectionLost):
            await task


async def send(
    publisher: Publisher, subject: str, body: bytes = b"x", expected: int | None = None
) -> int | PublishError:
    answer: asyncio.Future[int | PublishError] = asyncio.get_running_loop().create_future()
    await publisher.publish(
        subject=subject, body=body, headers={"a": "b"}, expected_sequence=expected, completion=answer.set_result
    )
    async with asyncio.timeout(10):
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
            assert differing(wanted=config, present=info.config) == {}

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
        assert differing(wanted=config, present=info.config) == {}
        assert (corrected.created, corrected.messages) == (made.created, 1)

    async def test_a_kind_of_storage_that_cannot_be_changed_is_said_clearly(self, connection: NatsConnection) -> None:
        config = rules_stream(replicas=1)
        await connection.jetstream.add_stream(config.evolve(storage=api.StorageType.MEMORY))
        with pytest.raises(StreamUnusable, match="nats stream rm ATTUNE_RULES"):
            await ensure_stream(connection.jetstream, config)

    async def test_replicas_that_a_single_server_cannot_keep_are_said_clearly(self, connection: NatsConnection) -> None:
        with pytest.raises(nats.js.errors.APIError, match="replicas"):
            await ensure_stream(connection.jetstream, rules_stream(replicas=3))


class TestConnection:
    async def test_nobody_there_is_one_clear_sentence_without_the_password(self) -> None:
        with pytest.raises(NatsUnavailable) as refused:
            async with open_connection(NatsEndpoint(url="nats://me:secret@127.0.0.1:1", connect_timeout=1)):
                pass
        assert "nats://127.0.0.1:1 cannot be reached" in str(refused.value)
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize("text", [None, "not a creds file"])
    async def test_a_bad_credentials_file_is_named(
        self, nats_server: NatsServer, tmp_path: Path, text: str | None
    ) -> None:
        file = tmp_path / "nats.creds"
        if text is not None:
            file.write_text(text)
        with pytest.raises(NatsUnavailable, match=r"nats\.creds"):
            async with open_connection(NatsEndpoint(url=nats_server.url, creds_file=file)):
                pass

    async def test_a_server_that_dies_ends_the_connection(
        self, connection: NatsConnection, nats_server: NatsServer
    ) -> None:
        nats_server.kill()
        async with asyncio.timeout(10):
            await connection.wait_closed()
        assert "was lost" in connection.reason


class TestReader:
    async def read(self, connection: NatsConnection, **options: Any) -> list[StreamMessage]:
        found: list[StreamMessage] = []
        await read_snapshot(
            connection=connection,
            stream=STREAM,
            subject=subjects.ALL_RULES,
            on_message=found.append,
            timeout=20,
            **options,
        )
        return found

    async def test_an_empty_stream_is_an_empty_snapshot(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        assert await self.read(connection) == []

    async def test_a_snapshot_is_the_last_message_of_each_subject(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        for body in (b"old", b"new"):
            for number in range(5):
                await connection.jetstream.publish(subject(number), body, headers={"ce-type": "t"})
        found = await self.read(connection)
        assert sorted((m.subject, m.data) for m in found) == [(subject(n), b"new") for n in range(5)]
        assert {(m.headers or {})["ce-type"] for m in found} == {"t"}

    async def test_a_large_snapshot_comes_whole_under_flow_control(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        async with publishing(connection) as publisher:
            for number in range(20_000):
                await publisher.publish(
                    subject=subject(number),
                    body=b"x" * 300,
                    headers={},
                    expected_sequence=None,
                    completion=lambda _: None,
                )
            await publisher.drained()
        assert len({m.subject for m in await self.read(connection)}) == 20_000

    async def test_headers_only_leaves_bodies_out(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        await connection.jetstream.publish(subject(1), b"body", headers={"ce-time": "t"})
        [message] = await self.read(connection, headers_only=True)
        assert (message.data, (message.headers or {})["ce-time"]) == (b"", "t")

    async def test_a_snapshot_leaves_no_consumer_behind(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        await self.read(connection)
        assert (await connection.jetstream.stream_info(STREAM)).state.consumer_count == 0

    async def test_after_the_snapshot_it_goes_on_live(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        await connection.jetstream.publish(subject(1), b"before")
        found: list[StreamMessage] = []
        reader = StreamReader(
            connection=connection, stream=STREAM, subject=subjects.ALL_RULES, on_message=found.append, heartbeat=0.3
        )
        await reader.start()
        watch = asyncio.create_task(reader.run())
        await reader.caught_up.wait()
        await connection.jetstream.publish(subject(2), b"after")
        await until(lambda: [m.data for m in found] == [b"before", b"after"])
        watch.cancel()
        await reader.stop()

    @pytest.mark.parametrize("how", ["stream deleted and made again", "consumer deleted"])
    async def test_a_consumer_that_is_gone_is_noticed(self, connection: NatsConnection, how: str) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        reader = StreamReader(
            connection=connection, stream=STREAM, subject=subjects.ALL_RULES, on_message=lambda _: None, heartbeat=0.2
        )
        await reader.start()
        watch = asyncio.create_task(reader.run())
        if how == "consumer deleted":
            [consumer] = await connection.jetstream.consumers_info(STREAM)
            await connection.jetstream.delete_consumer(STREAM, consumer.name)
        else:
            await connection.jetstream.delete_stream(STREAM)
            await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        with pytest.raises(ReaderLost, match="silent"):
            async with asyncio.timeout(10):
                await watch
        await reader.stop()

    async def test_a_message_that_did_not_arrive_is_noticed(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        reader = StreamReader(
            connection=connection, stream=STREAM, subject=subjects.ALL_RULES, on_message=lambda _: None, heartbeat=0.2
        )
        await reader.start()
        reader._received = 3  # as if it had seen more than there was
        watch = asyncio.create_task(reader.run())
        await connection.jetstream.publish(subject(1), b"x")
        with pytest.raises(ReaderLost):
            async with asyncio.timeout(10):
                await watch
        await reader.stop()

    async def test_a_handler_that_raises_is_not_passed_over(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        await connection.jetstream.publish(subject(1), b"x")

        def broken(_: StreamMessage) -> None:
            raise KeyError("defect")

        with pytest.raises(ReaderLost, match="could not be handled"):
            await read_snapshot(
                connection=connection, stream=STREAM, subject=subjects.ALL_RULES, on_message=broken, timeout=10
            )

    async def test_a_connection_that_ends_meanwhile_ends_the_snapshot(
        self, connection: NatsConnection, nats_server: NatsServer
    ) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        await connection.jetstream.publish(subject(1), b"x")
        nats_server.kill()
        with pytest.raises((ReaderLost, nats.errors.Error)):
            await read_snapshot(
                connection=connection, stream=STREAM, subject=subjects.ALL_RULES, on_message=lambda _: None, timeout=10
            )

    def test_replies_with_and_without_a_domain_are_read(self) -> None:
        assert Delivery.parse("$JS.ACK.S.C.1.42.7.1700000000.3") == Delivery(42, 7, 3)
        assert Delivery.parse("$JS.ACK.dom.hash.S.C.1.42.7.1700000000.3.rnd") == Delivery(42, 7, 3)
        with pytest.raises(ValueError, match="does not come from JetStream"):
            Delivery.parse("_INBOX.x")


class TestPublisher:
    async def test_a_write_is_taken_only_over_what_was_seen(self, connection: NatsConnection) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        async with publishing(connection) as publisher:
            assert await send(publisher, subject(1), expected=0) == 1
            assert isinstance(await send(publisher, subject(1), expected=0), WrongSequence)
            assert await send(publisher, subject(1), expected=1) == 2
            assert isinstance(await send(publisher, subject(1), expected=1), WrongSequence)
            assert await send(publisher, subject(2), expected=0) == 3
            assert await send(publisher, subject(2)) == 4

    async def test_a_subject_that_no_stream_takes_is_told(self, connection: NatsConnection) -> None:
        async with publishing(connection) as publisher:
            assert isinstance(await send(publisher, subject(1)), StreamGone)

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
            with contextlib.suppress(ConnectionLost):
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
            assert all(isinstance(outcome, ConnectionLost) for outcome in outcomes)
            with pytest.raises(ConnectionLost):
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
        with pytest.raises(ConnectionLost, match="did not answer"):
            async with asyncio.timeout(10):
                await publisher.run()
        assert isinstance(outcomes[0], ConnectionLost)


class TestCancellation:
    @pytest.mark.parametrize("call", ["publish", "request", "subscribe"])
    async def test_a_task_that_is_cancelled_inside_a_call_of_nats_py_ends(
        self, connection: NatsConnection, call: str
    ) -> None:
        await ensure_stream(connection.jetstream, rules_stream(replicas=1))
        client = connection.client

        async def work() -> None:
            match call:
                case "publish":
                    await client.publish(subject(1), b"x")
                case "request":
                    await connection.jetstream.stream_info(STREAM)
                case _:
                    await client.subscribe("some.subject")
            await asyncio.Event().wait()

        for turns in range(12):
            task = asyncio.create_task(work())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=5)
            assert done, f"it went on after {turns} turns of the loop"
