"""One connection, readers that notice what they miss, and calls that can be cancelled, on a real NATS server."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.js import api
from support.certificates import Authority
from support.eventually import until
from support.nats_server import NatsServer

from attune_kit.backoff import Backoff
from attune_kit.nats.client import NatsClient
from attune_kit.nats.connection import NatsConnection, NatsEndpoint, NatsUnavailableError, open_connection
from attune_kit.nats.connector import NatsConnector
from attune_kit.nats.last_per_subject import (
    Delivery,
    LastPerSubjectReader,
    ReaderLostError,
    StreamMessage,
    read_snapshot,
)
from attune_kit.nats.pull_consumer import StreamUnavailableError
from attune_kit.supervisor import end

pytestmark = pytest.mark.nats

STREAM = "STATES"
ALL = "states.>"


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[NatsConnection]:
    async with open_connection(NatsEndpoint(url=nats_server.url)) as opened:
        yield opened


async def create_stream(connection: NatsConnection) -> None:
    await connection.jetstream.add_stream(
        api.StreamConfig(name=STREAM, subjects=[ALL], max_msgs_per_subject=1, allow_rollup_hdrs=True)
    )


def subject(number: int) -> str:
    return f"states.number-{number}"


class TestTls:
    """A server that allows TLS (``allow_non_tls``): a client that is to have TLS never goes on without."""

    @pytest.fixture
    async def server(self, tmp_path: Path) -> AsyncIterator[NatsServer]:
        authority = Authority()
        certificate, key = authority.issue("localhost")
        files = {"ca.crt": authority.pem, "tls.crt": certificate, "tls.key": key}
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        tls = f'tls {{ cert_file: "{tmp_path}/tls.crt", key_file: "{tmp_path}/tls.key" }}\nallow_non_tls: true'
        server = NatsServer(tmp_path / "nats", extra_config=tls)
        await asyncio.to_thread(server.start)
        yield server
        await asyncio.to_thread(server.stop)

    async def test_each_client_has_what_its_url_says(self, server: NatsServer, tmp_path: Path) -> None:
        secure = NatsEndpoint(url=f"tls://localhost:{server.port}", ca_file=tmp_path / "ca.crt")
        for endpoint, encrypted in ((NatsEndpoint(url=server.url), False), (secure, True)):
            async with open_connection(endpoint) as opened:
                assert (opened.client._transport._io_writer.get_extra_info("ssl_object") is not None) == encrypted
                await opened.client.flush()

    async def test_a_certificate_of_others_is_refused_and_not_gone_around(self, server: NatsServer) -> None:
        with pytest.raises(NatsUnavailableError, match="certificate"):
            async with open_connection(NatsEndpoint(url=f"tls://localhost:{server.port}")):
                pass

    @pytest.mark.parametrize("kept", [{"tls_available"}, set()], ids=["offered", "hidden"])
    async def test_somebody_between_who_hides_tls_is_told_nothing(self, kept: set[str]) -> None:
        """What the server says at first is not encrypted: whoever passes it on can change it."""
        heard = bytearray()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            info = {"server_id": "x", "version": "2.15.1", "max_payload": 1000, "nonce": "abc", "auth_required": True}
            writer.write(f"INFO {json.dumps(info | dict.fromkeys(kept, True))}\r\n".encode())
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(5):
                    heard.extend(await reader.read(100))
            writer.close()

        between = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with between:
            port = between.sockets[0].getsockname()[1]
            endpoint = NatsEndpoint(url=f"tls://me:secret@127.0.0.1:{port}", connect_timeout=5)
            with pytest.raises(NatsUnavailableError) as refused:
                async with open_connection(endpoint):
                    pass
        assert "secret" not in str(refused.value)
        # Nothing, or the beginning of a handshake (RFC 8446 §5.1).
        assert bytes(heard[:1]) in (b"", b"\x16")
        assert b"CONNECT" not in heard


class TestConnection:
    async def test_nobody_there_is_one_clear_sentence_without_the_password(self) -> None:
        with pytest.raises(NatsUnavailableError) as refused:
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
        with pytest.raises(NatsUnavailableError, match=r"nats\.creds"):
            async with open_connection(NatsEndpoint(url=nats_server.url, creds_file=file)):
                pass

    async def test_a_server_that_dies_ends_the_connection(
        self, connection: NatsConnection, nats_server: NatsServer
    ) -> None:
        nats_server.kill()
        async with asyncio.timeout(150):
            await connection.wait_closed()
        assert "was lost" in connection.reason


class TestReader:
    async def read(self, connection: NatsConnection, **options: Any) -> list[StreamMessage]:
        found: list[StreamMessage] = []
        await read_snapshot(
            connection=connection,
            stream=STREAM,
            subject=ALL,
            on_message=found.append,
            timeout=20,
            **options,
        )
        return found

    async def test_an_empty_stream_is_an_empty_snapshot(self, connection: NatsConnection) -> None:
        await create_stream(connection)
        assert await self.read(connection) == []

    async def test_a_snapshot_is_the_last_message_of_each_subject(self, connection: NatsConnection) -> None:
        await create_stream(connection)
        for body in (b"old", b"new"):
            for number in range(5):
                await connection.jetstream.publish(subject(number), body, headers={"ce-type": "t"})
        found = await self.read(connection)
        assert sorted((m.subject, m.data) for m in found) == [(subject(n), b"new") for n in range(5)]
        assert {(m.headers or {})["ce-type"] for m in found} == {"t"}

    async def test_a_large_snapshot_comes_whole_under_flow_control(self, connection: NatsConnection) -> None:
        await create_stream(connection)
        for number in range(19_999):
            await connection.client.publish(subject(number), b"x" * 300)
        await connection.jetstream.publish(subject(19_999), b"x")  # acknowledged after all others were stored
        assert len({m.subject for m in await self.read(connection)}) == 20_000

    async def test_headers_only_leaves_bodies_out(self, connection: NatsConnection) -> None:
        await create_stream(connection)
        await connection.jetstream.publish(subject(1), b"body", headers={"ce-time": "t"})
        [message] = await self.read(connection, headers_only=True)
        assert (message.data, (message.headers or {})["ce-time"]) == (b"", "t")

    async def test_a_snapshot_leaves_no_consumer_behind(self, connection: NatsConnection) -> None:
        await create_stream(connection)
        await self.read(connection)
        assert (await connection.jetstream.stream_info(STREAM)).state.consumer_count == 0

    async def test_after_the_snapshot_it_goes_on_live(self, connection: NatsConnection) -> None:
        await create_stream(connection)
        await connection.jetstream.publish(subject(1), b"before")
        found: list[StreamMessage] = []
        reader = LastPerSubjectReader(
            connection=connection, stream=STREAM, subject=ALL, on_message=found.append, heartbeat=0.3
        )
        await reader.start()
        watch = asyncio.create_task(reader.run())
        await reader.wait_caught_up()
        await connection.jetstream.publish(subject(2), b"after")
        await until(lambda: [m.data for m in found] == [b"before", b"after"])
        watch.cancel()
        await reader.stop()

    @pytest.mark.parametrize("how", ["stream deleted and made again", "consumer deleted"])
    async def test_a_consumer_that_is_gone_is_noticed(self, connection: NatsConnection, how: str) -> None:
        await create_stream(connection)
        reader = LastPerSubjectReader(
            connection=connection, stream=STREAM, subject=ALL, on_message=lambda _: None, heartbeat=0.2
        )
        await reader.start()
        watch = asyncio.create_task(reader.run())
        if how == "consumer deleted":
            [consumer] = await connection.jetstream.consumers_info(STREAM)
            await connection.jetstream.delete_consumer(STREAM, consumer.name)
        else:
            await connection.jetstream.delete_stream(STREAM)
            await create_stream(connection)
        with pytest.raises(ReaderLostError, match=r"silent|Consumer Deleted"):
            async with asyncio.timeout(150):
                await watch
        await reader.stop()

    async def test_a_client_that_may_use_two_names_has_two_consumers(self, connection: NatsConnection) -> None:
        await create_stream(connection)
        await connection.jetstream.publish(subject(1), b"x")
        found: list[list[StreamMessage]] = [[], [], []]
        readers = [
            LastPerSubjectReader(
                connection=connection, stream=STREAM, subject=ALL, on_message=f.append, consumer_names=("one", "two")
            )
            for f in found
        ]
        for reader in readers[:2]:
            await reader.start()
            await reader.wait_caught_up()
        with pytest.raises(StreamUnavailableError, match="all 2 consumers that this client may have are in use"):
            await readers[2].start()
        await connection.jetstream.publish(subject(2), b"y")  # both get it: they do not share a consumer
        await until(lambda: [[m.data for m in f] for f in found[:2]] == [[b"x", b"y"]] * 2)
        await readers[0].stop()
        await readers[2].start()
        await readers[2].wait_caught_up()
        for reader in readers[1:]:
            await reader.stop()

    async def test_a_snapshot_of_several_batches_of_bytes_comes_whole(self, connection: NatsConnection) -> None:
        await create_stream(connection)
        for number in range(60):
            await connection.jetstream.publish(subject(number), bytes(400_000))
        assert sum(len(m.data) for m in await self.read(connection)) == 60 * 400_000

    async def test_a_request_that_expires_is_followed_by_another(
        self, connection: NatsConnection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("attune_kit.nats.pull_consumer._EXPIRES", 1.0)
        await create_stream(connection)
        found: list[StreamMessage] = []
        reader = LastPerSubjectReader(
            connection=connection, stream=STREAM, subject=ALL, on_message=found.append, heartbeat=0.2
        )
        await reader.start()
        await reader.wait(2.5)
        await connection.jetstream.publish(subject(1), b"late")
        await until(lambda: [m.data for m in found] == [b"late"])
        await reader.stop()

    async def test_a_message_that_did_not_arrive_is_noticed(self, connection: NatsConnection) -> None:
        await create_stream(connection)
        reader = LastPerSubjectReader(
            connection=connection, stream=STREAM, subject=ALL, on_message=lambda _: None, heartbeat=0.2
        )
        await reader.start()
        reader._received = 3  # as if it had seen more than there was
        watch = asyncio.create_task(reader.run())
        await connection.jetstream.publish(subject(1), b"x")
        with pytest.raises(ReaderLostError):
            async with asyncio.timeout(150):
                await watch
        await reader.stop()

    async def test_a_stream_that_is_not_there_is_named(self, connection: NatsConnection) -> None:
        with pytest.raises(StreamUnavailableError, match="STATES: stream not found"):
            await self.read(connection)

    async def test_a_handler_that_raises_is_not_passed_over(self, connection: NatsConnection) -> None:
        await create_stream(connection)
        await connection.jetstream.publish(subject(1), b"x")

        def broken(_: StreamMessage) -> None:
            raise KeyError("defect")

        with pytest.raises(ReaderLostError, match="could not be handled"):
            await read_snapshot(connection=connection, stream=STREAM, subject=ALL, on_message=broken, timeout=60)

    async def test_a_connection_that_ends_meanwhile_ends_the_snapshot(
        self, connection: NatsConnection, nats_server: NatsServer
    ) -> None:
        await create_stream(connection)
        await connection.jetstream.publish(subject(1), b"x")
        nats_server.kill()
        with pytest.raises((ReaderLostError, nats.errors.Error)):
            await read_snapshot(
                connection=connection, stream=STREAM, subject=ALL, on_message=lambda _: None, timeout=60
            )

    def test_replies_with_and_without_a_domain_are_read(self) -> None:
        assert Delivery.parse("$JS.ACK.S.C.1.42.7.1700000000.3") == Delivery(42, 7, 1700000000, 3)
        assert Delivery.parse("$JS.ACK.dom.hash.S.C.1.42.7.1700000000.3.rnd") == Delivery(42, 7, 1700000000, 3)
        with pytest.raises(ValueError, match="not the reply subject"):
            Delivery.parse("_INBOX.x")


class TestCancellation:
    @pytest.mark.parametrize("call", ["publish", "request", "subscribe"])
    async def test_a_task_that_is_cancelled_inside_a_call_of_nats_py_ends(
        self, connection: NatsConnection, call: str
    ) -> None:
        await create_stream(connection)
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
            done, _ = await asyncio.wait({task}, timeout=150)
            assert done, f"it went on after {turns} turns of the loop"

    async def test_a_stop_under_load_ends_while_the_server_reads_nothing(self, nats_server: NatsServer) -> None:
        body = b"x" * 8192
        published = 0

        async def work() -> None:
            nonlocal published
            async with open_connection(NatsEndpoint(url=nats_server.url)) as connection:
                await create_stream(connection)
                os.kill(nats_server.pid, signal.SIGSTOP)
                while True:
                    await connection.client.publish(subject(published), body)
                    published += 1

        task = asyncio.create_task(work())
        try:
            before = -1
            while published == 0 or published != before:  # until nats-py waits for the socket
                before = published
                await asyncio.sleep(0.5)
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=150)
            assert done, "it went on"
            assert task.cancelled()
        finally:
            os.kill(nats_server.pid, signal.SIGCONT)
            await end(task)


class Connected:
    """A connector at work, and what it told."""

    def __init__(self, endpoint: NatsEndpoint) -> None:
        self.states: list[bool] = []
        self.opened = 0
        self.connector = NatsConnector(
            endpoint, on_state=self.states.append, backoff=Backoff(initial=0.05, maximum=0.2)
        )
        self.connector.on_connected(self._count)

    def _count(self) -> None:
        self.opened += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[NatsConnector]:
        task = asyncio.create_task(self.connector.run())
        try:
            yield self.connector
        finally:
            await end(task)


class TestConnector:
    async def test_another_connection_follows_one_that_was_lost(self, nats_server: NatsServer) -> None:
        it = Connected(NatsEndpoint(url=nats_server.url))
        async with it.running() as connector:
            first = await connector.wait_connected()
            assert connector.problem is None
            nats_server.kill()
            await until(lambda: not connector.connected)
            assert "lost" in (connector.problem or "") or "reached" in (connector.problem or "")
            nats_server.start()
            second = await connector.wait_connected()
            assert second is not first
            assert first.closed
            assert it.opened == 2
        assert it.states == [True, False, True, False]
        assert second.closed

    async def test_a_connection_that_is_given_up_is_replaced(self, nats_server: NatsServer) -> None:
        it = Connected(NatsEndpoint(url=nats_server.url))
        async with it.running() as connector:
            first = await connector.wait_connected()
            connector.reconnect("it does not work")
            await until(lambda: it.opened == 2)
            assert first.closed

    async def test_without_a_server_the_first_attempt_is_not_waited_for_longer(self) -> None:
        it = Connected(NatsEndpoint(url="nats://127.0.0.1:1", connect_timeout=1))
        async with it.running() as connector:
            async with asyncio.timeout(150):
                assert not await connector.wait_attempted()
            assert "cannot be reached" in (connector.problem or "")
        assert it.states == []


class SwallowsOneCancellation(NatsClient):
    """As ``asyncio.wait_for`` does in Python 3.11 when a connection is refused just then."""

    swallowed = False

    async def _select_next_server(self) -> None:
        while True:
            try:
                await super()._select_next_server()
            except asyncio.CancelledError:
                if self.swallowed:
                    raise
                self.swallowed = True
            else:
                return


async def test_a_client_that_reconnects_is_at_rest_when_it_is_closed(nats_server: NatsServer) -> None:
    async def ignore(_error: Exception) -> None:
        """The server is killed on purpose."""

    client = SwallowsOneCancellation()
    await client.connect(nats_server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=ignore)
    nats_server.kill()
    [task] = await until(lambda: client.is_reconnecting and set(client._reconnecting))
    await client.close()
    assert client.swallowed
    assert task.done()
    assert client.is_closed
