"""Messages that go to JetStream as a chain: all are stored, or what follows the first that is not is not either."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.errors import ConnectionClosedError
from nats.js.api import StreamConfig
from support.eventually import until
from support.nats_client import connect
from support.nats_server import NatsServer

from attune_api.streams.chain import Chain, Message, Sent
from attune_api.streams.stored import all_messages
from attune_kit.nats.connection import NatsConnection, NatsEndpoint, open_connection

pytestmark = pytest.mark.nats

STREAM = "CHAIN"


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[NatsConnection]:
    async with open_connection(NatsEndpoint(url=nats_server.url)) as opened:
        yield opened


async def _make_stream(connection: NatsConnection, *, largest: int = -1) -> None:
    config = StreamConfig(name=STREAM, subjects=["chain.>"], max_msg_size=largest, allow_direct=True)
    await connection.client.jetstream(timeout=30).add_stream(config)


async def _chain(connection: NatsConnection, *, newest: int = 0) -> Chain:
    chain = Chain(connection, stream=STREAM, newest=newest, timeout=30, answered=asyncio.Event())
    await chain.start()
    return chain


async def _publish(chain: Chain, messages: list[Message], *, each_answered: bool) -> Sent:
    """Send them in two parts, one behind the other, and wait for what becomes of all."""
    half = (len(messages) + 1) // 2
    for part in (messages[:half], messages[half:]):
        if part:
            await chain.send(part, each_answered=each_answered)
    acknowledged = 0

    def over() -> Sent | None:
        nonlocal acknowledged
        sent = chain.settle()
        acknowledged += sent.acknowledged
        all_or_failed = acknowledged == len(messages) or sent.failure is not None
        return Sent(acknowledged, sent.failure) if all_or_failed else None

    return await until(over, within=60, every=0.01)


def _messages(*bodies: str, start: int = 0) -> list[Message]:
    return [("chain.x", body.encode(), {"Nats-Msg-Id": f"m-{n}"}) for n, body in enumerate(bodies, start)]


async def _stored(server: NatsServer) -> list[str]:
    client = await connect(server.url)
    try:
        return [m.data.decode() for m in await all_messages(client, stream=STREAM, subject="chain.>")]
    finally:
        await client.close()


@pytest.mark.parametrize("each_answered", [False, True])
async def test_all_are_stored_in_their_order_and_once(
    nats_server: NatsServer, connection: NatsConnection, each_answered: bool
) -> None:
    await _make_stream(connection)
    chain = await _chain(connection)
    messages = _messages(*map(str, range(500)))
    sent = await _publish(chain, messages, each_answered=each_answered)
    assert (sent.acknowledged, sent.failure) == (500, None)
    more = await _publish(chain, _messages("500", start=500), each_answered=each_answered)
    assert more.acknowledged == 1
    # Whoever does not know of that publishes nothing, neither the same nor others, whatever the server knows of repetitions.
    for others in (messages, _messages("x", "y", start=1000)):
        late = await _publish(await _chain(connection), others, each_answered=each_answered)
        assert late.acknowledged == 0
        assert "wrong last sequence" in str(late.failure)
    assert await _stored(nats_server) == [str(n) for n in range(501)]


async def test_what_follows_a_refused_one_is_refused_and_answers_for_each_say_where(
    nats_server: NatsServer, connection: NatsConnection
) -> None:
    await _make_stream(connection, largest=200)
    messages = _messages("a", "b" * 300, "c", "d", "e")
    sent = await _publish(await _chain(connection), messages, each_answered=False)
    assert sent.acknowledged == 0
    assert "wrong last sequence" in str(sent.failure), "the last one comes behind one that is not there"
    assert await _stored(nats_server) == ["a"]
    sent = await _publish(await _chain(connection, newest=1), messages[1:], each_answered=True)
    assert sent.acknowledged == 0
    assert "size" in str(sent.failure)
    sent = await _publish(await _chain(connection, newest=1), _messages("c", "d", start=2), each_answered=False)
    assert (sent.acknowledged, sent.failure) == (2, None)
    assert await _stored(nats_server) == ["a", "c", "d"]


async def test_a_stream_that_is_not_there_and_a_server_that_goes_are_failures(
    nats_server: NatsServer, connection: NatsConnection
) -> None:
    chain = await _chain(connection)
    sent = await _publish(chain, _messages("a", "b"), each_answered=False)
    assert sent.acknowledged == 0
    assert "no stream" in str(sent.failure)
    nats_server.kill()
    await connection.wait_closed()
    with pytest.raises(ConnectionClosedError):
        await _publish(chain, _messages("a", "b"), each_answered=False)
