"""What a user of NATS may do and may not, judged by a real server that knows nothing but the operator's key."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client, RawCredentials
from nats.js import api
from support.eventually import until
from support.nats_server import NatsServer

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_operator.credentials import nats_auth, nats_jwt
from attune_operator.credentials.nats_auth import NatsKeys
from attune_operator.credentials.nats_jwt import Permissions

pytestmark = pytest.mark.nats

REF = SensorRef("attune-system", "core.timer")
OTHER = SensorRef("attune-system", "core.other")
#: Same subjects as REF's but for where the dots are: must not be taken for it.
NEAR = SensorRef("attune-system", "core.timer2")


@pytest.fixture(scope="module")
def keys() -> NatsKeys:
    counter = iter(range(1, 100))
    return nats_auth.make_keys(now=datetime(2026, 11, 23, tzinfo=UTC), new_seed=lambda: bytes([next(counter)]) * 32)


@pytest.fixture
def server(keys: NatsKeys, tmp_path: Path) -> Iterator[NatsServer]:
    """A server with the configuration that the operator writes."""
    started = NatsServer(tmp_path, extra_config=nats_auth.server_config(keys))
    started.start()
    yield started
    started.stop()


def creds(keys: NatsKeys, *, name: str, permissions: Permissions, seconds: float | None = 600, seed: int = 200) -> str:
    now = datetime.now(UTC)
    return nats_jwt.user_creds(
        user_seed=nats_jwt.make_seed("user", bytes([seed]) * 32),
        signing_seed=keys.signing,
        account=nats_jwt.public_of(keys.account),
        name=name,
        subject="uid-1",
        permissions=permissions,
        issued_at=now,
        expires_at=None if seconds is None else now + timedelta(seconds=seconds),
    )


@contextlib.asynccontextmanager
async def connected(server: NatsServer, text: str | None, *, inbox: str = "_INBOX") -> AsyncIterator[Client]:
    """A client; what the server refuses is collected in ``client.refused``."""
    client = Client()
    client.refused = []

    async def on_error(error: Exception) -> None:
        client.refused.append(str(error))

    options: dict[str, Any] = {"user_credentials": RawCredentials(text)} if text else {}
    try:
        await client.connect(
            server.url,
            inbox_prefix=inbox.encode(),
            allow_reconnect=False,
            error_cb=on_error,
            connect_timeout=5,
            **options,
        )
        yield client
    finally:
        await client.close()


@pytest.fixture
async def operator(server: NatsServer, keys: NatsKeys) -> AsyncIterator[Client]:
    """The operator's own user, and the streams with a rule of two sensors each."""
    text = creds(keys, name="operator", permissions=nats_auth.EVERYTHING, seconds=None)
    async with connected(server, text) as client:
        jetstream = client.jetstream()
        await jetstream.add_stream(name=subjects.RULES_STREAM, subjects=[subjects.ALL_RULES])
        await jetstream.add_stream(name=subjects.ACKS_STREAM, subjects=[subjects.ALL_ACKS])
        await jetstream.add_stream(name=subjects.IDENTITIES_STREAM, subjects=[subjects.ALL_IDENTITIES])
        for ref in (REF, OTHER, NEAR):
            await jetstream.publish(subjects.rule_subject(ref, "uid-1"), str(ref).encode())
        yield client


@pytest.fixture
async def sensor(server: NatsServer, keys: NatsKeys, operator: Client) -> AsyncIterator[Client]:
    text = creds(keys, name=REF.login, permissions=nats_auth.sensor_permissions(REF))
    async with connected(server, text, inbox=REF.inbox_prefix) as client:
        yield client


async def create_consumer(client: Client, *, subject: str, **config: Any) -> dict[str, Any]:
    """Ask for a push consumer as the sensor protocol says; ``subject`` is where the request goes."""
    stream = subjects.RULES_STREAM
    body = {
        "stream_name": stream,
        "config": {"name": "c1", "deliver_policy": "last_per_subject", "ack_policy": "none", **config},
        "action": "create",
    }
    answer = await client.request(f"$JS.API.CONSUMER.{subject}", json.dumps(body).encode(), timeout=1)
    return dict(json.loads(answer.data))


async def test_nobody_gets_in_without_credentials(server: NatsServer) -> None:
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        async with connected(server, None):
            pass


async def test_nor_with_a_user_of_another_account(server: NatsServer, keys: NatsKeys) -> None:
    forged = nats_auth.make_keys(now=keys.created, new_seed=lambda: b"z" * 32)
    text = creds(forged, name="operator", permissions=nats_auth.EVERYTHING)
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        async with connected(server, text):
            pass


async def test_a_sensor_reads_its_own_rules(sensor: Client) -> None:
    inbox = sensor.new_inbox()
    subscription = await sensor.subscribe(inbox)
    wanted = subjects.rules_filter(REF)
    created = await create_consumer(
        sensor, subject=f"CREATE.{subjects.RULES_STREAM}.c1.{wanted}", filter_subject=wanted, deliver_subject=inbox
    )
    assert created["num_pending"] == 1
    message = await subscription.next_msg(timeout=5)
    assert message.data.decode() == str(REF)
    assert sensor.refused == []


async def test_a_sensor_writes_its_own_acks(sensor: Client) -> None:
    stored = await sensor.jetstream().publish(subjects.ack_subject(REF, "uid-1"), b"{}")
    assert stored.stream == subjects.ACKS_STREAM


CREATE = f"CREATE.{subjects.RULES_STREAM}"


@pytest.mark.parametrize(
    ("subject", "config"),
    [
        (f"{CREATE}.c1.{subjects.rules_filter(OTHER)}", {"filter_subject": subjects.rules_filter(OTHER)}),
        (f"{CREATE}.c1.{subjects.rules_filter(NEAR)}", {"filter_subject": subjects.rules_filter(NEAR)}),
        (f"{CREATE}.c1.attune.rules.>", {"filter_subject": "attune.rules.>"}),
        (f"{CREATE}.c1", {}),
        (CREATE, {}),
        (f"{CREATE}.c1", {"filter_subjects": [subjects.rules_filter(REF), subjects.rules_filter(OTHER)]}),
        (f"DURABLE.{CREATE}.c1", {"durable_name": "c1"}),
    ],
    ids=["another's", "one of a similar name", "all of them", "no filter", "no name", "two filters", "the old way"],
)
async def test_a_sensor_gets_no_other_rules(sensor: Client, subject: str, config: dict[str, Any]) -> None:
    inbox = sensor.new_inbox()
    await sensor.subscribe(inbox)
    with pytest.raises(nats.errors.TimeoutError):
        await create_consumer(sensor, subject=subject, deliver_subject=inbox, **config)
    await sensor.flush()
    assert any("permissions violation for publish" in text for text in sensor.refused), sensor.refused


async def test_a_forged_body_does_not_help(sensor: Client) -> None:
    inbox = sensor.new_inbox()
    await sensor.subscribe(inbox)
    own = f"{CREATE}.c1.{subjects.rules_filter(REF)}"
    for config in (
        {"filter_subject": subjects.rules_filter(OTHER)},
        {"filter_subjects": ["attune.rules.>"]},
        {"filter_subject": ""},
    ):
        answer = await create_consumer(sensor, subject=own, deliver_subject=inbox, **config)
        assert "error" in answer, config


@pytest.mark.parametrize(
    "subject",
    [
        subjects.rule_subject(REF, "uid-1"),
        subjects.ack_subject(OTHER, "uid-1"),
        subjects.ack_subject(NEAR, "uid-1"),
        subjects.identity_subject(REF),
        subjects.event_subject("default", "uid-1"),
        f"$JS.API.STREAM.INFO.{subjects.RULES_STREAM}",
        f"$JS.API.STREAM.PURGE.{subjects.RULES_STREAM}",
        f"$JS.API.STREAM.DELETE.{subjects.RULES_STREAM}",
        f"$JS.API.STREAM.MSG.GET.{subjects.RULES_STREAM}",
        f"$JS.API.DIRECT.GET.{subjects.RULES_STREAM}.{subjects.rule_subject(OTHER, 'uid-1')}",
        f"$JS.API.CONSUMER.DELETE.{subjects.RULES_STREAM}.other",
        f"$JS.API.CONSUMER.LIST.{subjects.RULES_STREAM}",
        f"$JS.API.CONSUMER.CREATE.{subjects.IDENTITIES_STREAM}.c1.{subjects.identity_subject(REF)}",
        "$JS.API.STREAM.CREATE.mine",
        "$JS.API.INFO",
        "$SYS.REQ.SERVER.PING",
    ],
)
async def test_a_sensor_publishes_nothing_else(sensor: Client, subject: str) -> None:
    with pytest.raises(nats.errors.TimeoutError):
        await sensor.request(subject, b"{}", timeout=0.3)
    assert any("permissions violation for publish" in text for text in sensor.refused), sensor.refused


@pytest.mark.parametrize("subject", ["_INBOX.>", f"{OTHER.inbox_prefix}.>", "attune.rules.>", ">", "$JS.>"])
async def test_a_sensor_hears_nothing_else(sensor: Client, subject: str) -> None:
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def on_error(error: Exception) -> None:
        if "permissions violation for subscription" in str(error) and not refused.done():
            refused.set_result(None)

    sensor._error_cb = on_error
    await sensor.subscribe(subject)
    async with asyncio.timeout(5):
        await refused


async def test_the_server_ends_a_connection_whose_credentials_expired(
    server: NatsServer, keys: NatsKeys, operator: Client
) -> None:
    text = creds(keys, name=REF.login, permissions=nats_auth.sensor_permissions(REF), seconds=2)
    async with connected(server, text, inbox=REF.inbox_prefix) as client:
        await until(lambda: not client.is_connected)

    async def refused() -> bool:
        try:
            async with connected(server, text, inbox=REF.inbox_prefix):
                return False
        except nats.errors.Error as error:
            return "authorization violation" in str(error).lower()

    # The server counts whole seconds: in the one in which they end they still let one in.
    await until(refused, within=5)


async def test_the_api_keeps_events_and_reads_what_others_say_but_writes_none_of_it(
    server: NatsServer, keys: NatsKeys, operator: Client
) -> None:
    text = creds(keys, name="service:attune-api", permissions=nats_auth.api_permissions(), seconds=None)
    async with connected(server, text) as client:
        jetstream = client.jetstream(timeout=2)
        with pytest.raises(nats.js.errors.NotFoundError):
            await jetstream.stream_info(subjects.EVENTS_STREAM)
        await jetstream.add_stream(name=subjects.EVENTS_STREAM, subjects=[subjects.ALL_EVENTS])
        await jetstream.publish(subjects.event_subject("default", "uid-1"), b"{}")
        for stream in (subjects.IDENTITIES_STREAM, subjects.RULES_STREAM, subjects.ACKS_STREAM, subjects.EVENTS_STREAM):
            inbox = client.new_inbox()
            await client.subscribe(inbox)
            config = api.ConsumerConfig(
                name="c1", deliver_subject=inbox, ack_policy=api.AckPolicy.NONE, filter_subject=">"
            )
            await jetstream.add_consumer(stream, config)
            await jetstream.delete_consumer(stream, "c1")
        assert client.refused == []
        for subject in (
            subjects.rule_subject(REF, "u"),
            subjects.identity_subject(REF),
            subjects.ack_subject(REF, "u"),
        ):
            with pytest.raises(nats.errors.TimeoutError):
                await client.request(subject, b"", timeout=0.3)
        with pytest.raises(nats.errors.TimeoutError):
            await client.request(f"$JS.API.STREAM.DELETE.{subjects.RULES_STREAM}", b"", timeout=0.3)
        assert len(client.refused) == 4
