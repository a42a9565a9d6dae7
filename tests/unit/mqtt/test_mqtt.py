"""The MQTT sensor's rules, payloads, names and configuration; and that its manifest agrees with its program."""

import asyncio
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from aiomqtt import MqttError
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from support.rule_stream import rule_state

from attune_contract.resources import Sensor as SensorResource
from attune_mqtt.config import Server, servers_of
from attune_mqtt.deliveries import Deliveries
from attune_mqtt.lenient import text
from attune_mqtt.parameters import Subscription, client_id, subscription_of
from attune_mqtt.payload import Content, Identity, identity_of, occurrence_of, payload_of, size_of
from attune_mqtt.source import MqttTopic
from attune_sensor import InvalidRuleError, Rule, SettingsError, SourceError

PACK = Path(__file__).parents[3] / "packs" / "mqtt" / "core.mqtt.yaml"
SENSOR = SensorResource.from_object(yaml.safe_load(PACK.read_text()))
DECLARED = SENSOR.spec.canonical("core.mqtttopic")
assert DECLARED is not None
PAYLOADS = jsonschema.Draft202012Validator(DECLARED.payload_schema or {})
PARAMETERS = jsonschema.Draft202012Validator(DECLARED.parameters_schema or {})
SERVERS = servers_of(
    {"servers": {"default": {"url": "mqtt://broker"}, "old": {"url": "mqtt://broker", "version": "3.1.1"}}}
)


def rule(**parameters: Any) -> Rule:
    return Rule(state=rule_state(trigger_type="core.mqtttopic", parameters=parameters), since_us=0)


def content(**given: Any) -> Content:
    base: dict[str, Any] = {
        "server": "default",
        "topic": "a/b",
        "qos": 1,
        "retained": False,
        "redelivered": False,
        "properties": {},
        "content_type": None,
        "response_topic": None,
        "correlation": None,
        "identity": None,
        "body": b"1",
    }
    return Content(**(base | given))


@pytest.mark.parametrize(
    ("parameters", "good"),
    [
        ({"topic": "orders"}, True),
        ({"topic": "plant/+/temperature", "server": "default", "retained": True}, True),
        ({"topic": "orders/#", "idProperty": "event-id", "idField": "meta.id"}, True),
        ({"topic": "#"}, True),
        ({"topic": "+"}, True),
        ({"topic": "/"}, True),
        ({"topic": "//a//"}, True),
        ({"topic": "+/+/"}, True),
        ({"topic": "$SYS/#"}, True),
        ({"topic": "$share/workers/jobs/+"}, True),
        ({"topic": "größe/mit leerzeichen"}, True),
        ({}, False),
        ({"topic": ""}, False),
        ({"topic": 5}, False),
        ({"topic": "a+"}, False),
        ({"topic": "a/b#"}, False),
        ({"topic": "#/a"}, False),
        ({"topic": "a\x00"}, False),
        ({"topic": "x" * 1025}, False),
        ({"topic": "a", "idField": "a..b"}, False),
        ({"topic": "a", "idProperty": ""}, False),
        ({"topic": "a", "retained": "yes"}, False),
        ({"topic": "a", "password": "secret"}, False),
    ],
)
def test_the_manifest_and_the_program_agree(parameters: dict[str, Any], good: bool) -> None:
    assert PARAMETERS.is_valid(parameters) == good
    if good:
        subscription_of(rule(**parameters), servers=SERVERS)
    else:
        with pytest.raises(InvalidRuleError):
            subscription_of(rule(**parameters), servers=SERVERS)


def test_the_samples_and_the_configuration_of_the_pack_can_be_used() -> None:
    servers = servers_of(SENSOR.spec.config or {})
    for sample in (DECLARED.parameters_schema or {})["examples"] if DECLARED else []:
        subscription_of(rule(**sample), servers=servers)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"topic": "a", "server": "other"}, "no server 'other' in spec.config.servers; it has default, old"),
        ({"topic": "a", "server": "old", "idProperty": "id"}, "MQTT 3.1.1, which has no properties"),
    ],
)
def test_a_rule_that_the_server_cannot_serve_says_why(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRuleError, match=said):
        subscription_of(rule(**parameters), servers=SERVERS)


def test_a_session_has_a_client_id_of_its_own_that_every_broker_takes() -> None:
    subscriptions = [
        Subscription(server="default", topic="a"),
        Subscription(server="old", topic="a"),
        Subscription(server="default", topic="b"),
        Subscription(server="default", topic="a", id_property="x"),
        Subscription(server="default", topic="a", id_field="x"),
        Subscription(server="default", topic="a", retained=True),
    ]
    ids = [
        client_id(sensor, each) for sensor in ("attune-system/core.mqtt", "shop/core.mqtt") for each in subscriptions
    ]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 23 and each.isalnum() for each in ids)
    # What a broker keeps is lost to the sensor if a release changes it.
    assert client_id("attune-system/core.mqtt", subscriptions[0]) == "attune3fc4a08a706391bc4"


# -- names ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "body", "found"),
    [
        ({"id": "p"}, b'{"meta": {"id": "f"}}', Identity("property", "p")),
        ({"id": ""}, b'{"meta": {"id": "f"}}', Identity("field", "f")),
        ({}, b'{"meta": {"id": 7}}', Identity("field", "7")),
        ({}, b'{"meta": {"id": "\\ud800"}}', None),
        ({}, b'{"meta": {"id": true}}', None),
        ({}, b'{"meta": {"id": 1.5}}', None),
        ({}, b'{"meta": {"id": ""}}', None),
        ({}, b'{"meta": []}', None),
        ({}, b"[1]", None),
        ({}, b"{no json", None),
        ({}, b"\xff", None),
        ({}, b"", None),
        ({}, b"[" * 100_000, None),
        ({}, b'{"meta": {"id": "f"}, "large": "' + b"x" * 4 * 1024 * 1024 + b'"}', None),
    ],
)
def test_a_message_is_named_by_its_publisher(properties: dict[str, str], body: bytes, found: Identity | None) -> None:
    assert identity_of(properties, body, id_property="id", id_field="meta.id") == found
    assert identity_of(properties, body, id_property=None, id_field=None) is None


@given(
    names=st.lists(
        st.tuples(
            st.text(max_size=3), st.text(max_size=3), st.sampled_from(["property", "field", None]), st.text(max_size=3)
        ),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_different_messages_have_different_occurrences(names: list[tuple[str, str, str | None, str]]) -> None:
    found = [
        occurrence_of(
            content(server=server, topic=topic, identity=None if kind is None else Identity(kind, name)), delivery=name
        )
        for server, topic, kind, name in names
    ]
    assert found[0] != found[1]


class Names:
    """Names that are never the same."""

    def __init__(self) -> None:
        counter = itertools.count()
        self.deliveries = Deliveries(lambda: f"n{next(counter)}")

    def name(self, packet_id: int, *, again: bool = False, topic: str = "t", body: bytes = b"x") -> str:
        return self.deliveries.name(packet_id, again=again, topic=topic, body=body)


def test_a_delivery_that_comes_again_has_its_name_until_it_is_acknowledged() -> None:
    names = Names()
    first = names.name(1)
    assert names.name(1, again=True) == first == names.name(1, again=True)
    names.deliveries.acknowledge(1)
    assert names.name(1, again=True) != first
    assert len(names.deliveries) == 1


def test_a_number_that_another_message_has_got_means_nothing() -> None:
    names = Names()
    first = names.name(1)
    assert names.name(1) != first  # not marked: it is a new message
    second = names.name(2)
    assert names.name(2, again=True, body=b"y") != second
    third = names.name(3, topic="a", body=b"bc")
    assert names.name(3, again=True, topic="ab", body=b"c") != third
    fourth = names.name(4)
    names.deliveries.forget()
    assert names.name(4, again=True) != fourth


def test_what_is_delivered_once_is_never_the_same() -> None:
    names = Names()
    assert names.name(0) != names.name(0, again=True)
    assert len(names.deliveries) == 0


# -- payloads ------------------------------------------------------------------------------------------------------------------


@given(
    topic=st.text(max_size=5),
    properties=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    correlation=st.none() | st.binary(max_size=3),
    content_type=st.none() | st.text(max_size=3),
    body=st.binary(max_size=20),
    whole=st.booleans(),
)
def test_every_payload_is_json_that_the_schema_allows(whole: bool, **given: Any) -> None:
    message = content(identity=Identity("field", "7"), response_topic="r", **given)
    payload = msgspec.json.decode(msgspec.json.encode(payload_of("default/rule", message, whole=whole)))
    PAYLOADS.validate(payload)
    assert "\\u0000" not in msgspec.json.encode(payload).decode().replace("\\\\", "")
    assert payload["id"] == "7"
    assert ("body" in payload) == whole
    assert payload.get("bytes", size_of(message)) == size_of(message)


# -- the configuration ---------------------------------------------------------------------------------------------------------


def test_servers_are_read_from_the_configuration() -> None:
    servers = servers_of(
        {
            "servers": {
                "default": {"url": "mqtt://broker"},
                "tls": {
                    "url": "mqtts://[::1]:8884/",
                    "username": "u",
                    "password": "s/password",
                    "ca": "s/ca.crt",
                    "prefetch": 5,
                    "sessionSeconds": 3600,
                },
            }
        }
    )
    plain = Server(
        name="default",
        host="broker",
        port=1883,
        tls=False,
        username=None,
        password=None,
        ca=None,
        new=True,
        prefetch=100,
        session_seconds=604800,
    )
    assert servers == {
        "default": plain,
        "tls": Server(
            name="tls",
            host="::1",
            port=8884,
            tls=True,
            username="u",
            password="s/password",
            ca="s/ca.crt",
            new=True,
            prefetch=5,
            session_seconds=3600,
        ),
    }
    assert servers_of({"servers": {"a": {"url": "mqtts://broker", "version": "3.1.1"}}})["a"].port == 8883


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"server": {}}, "unknown field `server`"),
        ({"servers": {"a": {}}}, "missing required field `url`"),
        ({"servers": {"a/b": {"url": "mqtt://b"}}}, "no name"),
        ({"servers": {"a": {"url": "tcp://b"}}}, "not like mqtt://"),
        ({"servers": {"a": {"url": "mqtt://b/topic"}}}, "not like mqtt://"),
        ({"servers": {"a": {"url": "mqtt://u:p@b"}}}, "holds credentials"),
        ({"servers": {"a": {"url": "mqtt://b:99999"}}}, "no number from 1 to 65535"),
        ({"servers": {"a": {"url": "mqtt://b", "ca": "s/ca"}}}, "write mqtts://"),
        ({"servers": {"a": {"url": "mqtt://b", "password": "s/p"}}}, "without username"),
        ({"servers": {"a": {"url": "mqtt://b", "username": "u", "password": "../../etc/passwd"}}}, "regex"),
        ({"servers": {"a": {"url": "mqtt://b", "version": "3.1"}}}, "version"),
        ({"servers": {"a": {"url": "mqtt://b", "version": "3.1.1", "sessionSeconds": 60}}}, "needs version 5"),
        ({"servers": {"a": {"url": "mqtt://b", "prefetch": 0}}}, "prefetch"),
    ],
)
def test_a_configuration_that_cannot_be_used_says_why(config: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        servers_of(config)


# -- the client ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "read"),
    [("größe".encode(), "größe"), ("\ufeffx".encode(), "\ufeffx"), (b"\xff\xed", "\\xff\\xed"), (b"", "")],
)
def test_every_property_can_be_read(value: bytes, read: str) -> None:
    buffer = len(value).to_bytes(2, "big") + value
    assert text(buffer + b"more", len(buffer)) == (read, len(buffer))
    with pytest.raises(MalformedPacket):
        text(buffer, len(buffer) - 1)


def source(server: Server = SERVERS["default"]) -> Any:
    return MqttTopic(
        server,
        Subscription(server="default", topic="t"),
        password=None,
        tls=None,
        client_id="test",
        deliveries=Deliveries(lambda: "name"),
        opened=lambda _: None,
    )


def message(packet_id: int, *, retain: bool = False, qos: int = 1, body: bytes = b"1") -> MQTTMessage:
    given = MQTTMessage(packet_id, b"t")
    given.retain, given.qos, given.payload = retain, qos, body
    return given


async def test_what_nobody_wants_is_acknowledged_after_what_came_before_it() -> None:
    topic = source()
    acknowledged: list[int] = []

    def ack(packet_id: int, _qos: int) -> int:
        acknowledged.append(packet_id)
        return 0

    topic._client._client = SimpleNamespace(ack=ack)
    for each in (message(1, retain=True), message(2), message(3, retain=True), message(4)):
        topic._client._on_message(None, None, each)
    taken = await topic.read()
    assert [each.handle[0].mid for each in taken] == [2, 4]
    assert acknowledged == [1]
    await topic.acknowledge(taken)
    assert acknowledged == [1, 2, 3, 4]


async def test_what_nobody_wants_waits_for_what_an_earlier_read_has_under_way() -> None:
    topic = source()
    acknowledged: list[int] = []

    def ack(packet_id: int, _qos: int) -> int:
        acknowledged.append(packet_id)
        return 0

    topic._client._client = SimpleNamespace(ack=ack)
    topic._client._on_message(None, None, message(1))
    first = await topic.read()
    topic._client._on_message(None, None, message(2, retain=True))
    assert await topic.read_ahead() == []
    assert acknowledged == []
    await topic.acknowledge(first)
    assert acknowledged == [1, 2]


async def test_what_could_not_be_acknowledged_keeps_its_name() -> None:
    topic = source()
    topic._client._client = SimpleNamespace(ack=lambda _packet_id, _qos: MQTTErrorCode.MQTT_ERR_NO_CONN)
    topic._client._on_message(None, None, message(1))
    taken = await topic.read()
    with pytest.raises(SourceError, match="broker:1883: the connection has ended"):
        await topic.acknowledge(taken)
    assert len(topic._deliveries) == 1
    topic._taken = 0  # with others under way, it would be acknowledged after them
    topic._client._on_message(None, None, message(2, retain=True))
    with pytest.raises(SourceError, match="broker:1883: the connection has ended"):
        await topic.read()


async def test_no_more_is_read_at_once_than_may_be_under_way() -> None:
    topic = source()
    for number in range(250):
        topic._client._on_message(None, None, message(number + 1))
    taken = await topic.read()
    assert len(taken) == 100
    assert await topic.read_ahead() == []
    await topic.acknowledge(taken[:30])
    assert [len(await topic.read_ahead()) for _ in range(2)] == [30, 0]


async def test_a_topic_that_the_broker_refuses_is_said_whenever_it_answers() -> None:
    topic = source()
    topic._client._asked = 7
    topic._client._on_subscribe(None, None, 7, [ReasonCode(PacketTypes.SUBACK, "Not authorized")])
    with pytest.raises(SourceError, match="broker:1883 refuses the topic t: Not authorized"):
        await topic.read()


async def test_an_end_of_the_connection_is_said() -> None:
    topic = source()
    await topic.hold([])
    topic._client._disconnected.set_exception(MqttError("broken pipe"))
    with pytest.raises(SourceError, match="broker:1883 has ended the connection: broken pipe"):
        await topic.hold([])


async def test_a_session_that_another_process_took_over_is_said_and_its_numbers_are_forgotten() -> None:
    topic = source()
    topic._deliveries.name(1, again=False, topic="t", body=b"1")
    topic._client._on_disconnect(None, None, None, ReasonCode(PacketTypes.DISCONNECT, "Session taken over"))
    with pytest.raises(SourceError, match="run one replica"):
        await topic.read()
    await topic.close()
    assert len(topic._deliveries) == 0


async def test_a_connection_that_is_given_up_before_the_broker_answers_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("attune_mqtt.client._KEEPALIVE", 3600)  # after which the client would close it itself
    heard = asyncio.Event()
    ended = asyncio.Event()

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read(1) == b"\x10"  # CONNECT
        heard.set()
        await reader.read()  # to the end of the connection
        ended.set()
        writer.close()

    async with await asyncio.start_server(broker, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        topic = source(servers_of({"servers": {"default": {"url": f"mqtt://127.0.0.1:{port}"}}})["default"])
        opening = asyncio.create_task(topic.open())
        await asyncio.wait_for(heard.wait(), 60)
        opening.cancel()
        await asyncio.wait({opening})
        await topic.close()
        await asyncio.wait_for(ended.wait(), 60)
