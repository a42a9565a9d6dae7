"""The AMQP sensor's rules, names, payloads and configuration; and that its manifest agrees with its program."""

import struct
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode
from pamqp.exceptions import UnmarshalingException
from support.rule_stream import rule_state

from attune_amqp.config import Server, servers_of
from attune_amqp.lenient import short_string, table, timestamp, use_lenient_decoders
from attune_amqp.parameters import Subscription, subscription_of
from attune_amqp.payload import Content, Identity, identity_of, occurred_at, occurrence_of, payload_of, size_of
from attune_amqp.source import AmqpQueue
from attune_contract.resources import Sensor as SensorResource
from attune_sensor import InvalidRuleError, Rule, SettingsError, SourceError

PACK = Path(__file__).parents[3] / "packs" / "amqp" / "core.amqp.yaml"
SENSOR = SensorResource.from_object(yaml.safe_load(PACK.read_text()))
DECLARED = SENSOR.spec.canonical("core.amqpqueue")
assert DECLARED is not None
PAYLOADS = jsonschema.Draft202012Validator(DECLARED.payload_schema or {})
PARAMETERS = jsonschema.Draft202012Validator(DECLARED.parameters_schema or {})


def rule(**parameters: Any) -> Rule:
    return Rule(state=rule_state(trigger_type="core.amqpqueue", parameters=parameters), since_us=0)


def content(**given: Any) -> Content:
    made: dict[str, Any] = {
        "server": "default",
        "queue": "orders",
        "identity": None,
        "exchange": "",
        "routing_key": "orders",
        "redelivered": False,
        "properties": {},
        "headers": {},
        "body": b"{}",
        **given,
    }
    return Content(**made)


def name_of(*, header: str | None = None, delivery: str = "d", **given: Any) -> str:
    identity = identity_of(given.get("headers", {}), given.get("properties", {}), id_header=header)
    return occurrence_of(content(identity=identity, **given), delivery=delivery)


@pytest.mark.parametrize(
    ("parameters", "good"),
    [
        ({"queue": "orders"}, True),
        ({"queue": "größer / new", "server": "default"}, True),
        ({}, False),
        ({"queue": ""}, False),
        ({"queue": 5}, False),
        ({"queue": "x" * 256}, False),
        ({"queue": "a\nb"}, False),
        ({"queue": "orders", "prefetch": 5}, False),
        ({"queue": "orders", "password": "secret"}, False),
    ],
)
def test_the_manifest_and_the_program_agree(parameters: dict[str, Any], good: bool) -> None:
    assert PARAMETERS.is_valid(parameters) == good
    if good:
        subscription_of(rule(**parameters), servers=["default"])
    else:
        with pytest.raises(InvalidRuleError):
            subscription_of(rule(**parameters), servers=["default"])


def test_the_samples_and_the_configuration_of_the_pack_can_be_used() -> None:
    for sample in (DECLARED.parameters_schema or {})["examples"] if DECLARED else []:
        subscription_of(rule(**sample), servers=servers_of(SENSOR.spec.config or {}))


def test_a_server_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(InvalidRuleError, match=r"no server 'default' .* it has a, b"):
        subscription_of(rule(queue="orders"), servers=["b", "a"])
    assert subscription_of(rule(queue="q"), servers=["default"]) == Subscription(server="default", queue="q")


def test_a_message_is_named_by_its_publisher() -> None:
    first = name_of(properties={"message_id": "1"})
    assert first == "default/orders/id//1"
    assert first == name_of(properties={"message_id": "1"}, delivery="another", redelivered=True, body=b"else")
    others = [
        name_of(properties={"message_id": "2"}),
        name_of(properties={"message_id": "1", "app_id": "shop"}),
        name_of(properties={"message_id": "1"}, queue="others"),
        name_of(properties={"message_id": "1"}, server="other"),
        name_of(headers={"id": "1"}, header="id"),
        name_of(delivery="1"),
    ]
    assert len({first, *others}) == 7


def test_a_header_names_a_message_before_message_id_does() -> None:
    both: dict[str, Any] = {"headers": {"id": 7}, "properties": {"message_id": "random"}}
    assert name_of(**both, header="id") == "default/orders/header//7"
    assert name_of(**both) == "default/orders/id//random"
    for nothing in ({}, {"id": ""}, {"id": None}, {"id": True}, {"id": [1]}, {"id": b"\xff"}):
        assert name_of(headers=nothing, properties={"message_id": "m"}, header="id") == "default/orders/id//m"


def test_a_message_without_a_name_is_named_by_its_delivery() -> None:
    assert name_of(delivery="one") != name_of(delivery="two")
    assert name_of(properties={"message_id": ""}, delivery="one") == name_of(delivery="one")


@given(st.lists(st.text(), min_size=4, max_size=4), st.lists(st.text(), min_size=4, max_size=4))
def test_names_of_different_messages_differ_whatever_is_in_them(one: list[str], other: list[str]) -> None:
    def name(server: str, queue: str, application: str, message: str) -> str:
        properties = {"app_id": application, "message_id": f"m{message}"}
        return name_of(server=server, queue=queue, properties=properties)

    assert (name(*one) == name(*other)) == (one == other)


FIELDS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary().map(bytearray)
    | st.decimals()
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), FIELDS), st.binary(), st.booleans(), st.text())
def test_payloads_are_json_that_the_manifest_declares(
    headers: dict[str, Any], body: bytes, whole: bool, text: str
) -> None:
    properties = {"message_id": text, "priority": 3, "timestamp": datetime(2026, 11, 28, tzinfo=UTC)}
    made = payload_of(
        "shop/orders",
        content(headers=headers, body=body, properties=properties, routing_key=text, identity=Identity("header", text)),
        whole=whole,
    )
    encoded = msgspec.json.encode(made)
    PAYLOADS.validate(msgspec.json.decode(encoded))
    assert b"\\u0000" not in encoded.replace(b"\\\\", b"")


def test_headers_are_carried_as_json() -> None:
    deep: Any = "end"
    for _ in range(40):
        deep = [deep]
    made = payload_of(
        "a/b",
        content(
            headers={
                "n": 1.5,
                "big": 2**64 - 1,
                "nan": float("nan"),
                "price": Decimal("1.50"),
                "raw": {"in": [bytearray(b"\xff")]},
                "deep": deep,
                "at": datetime(2026, 11, 28, tzinfo=UTC),
            }
        ),
        whole=True,
    )
    assert isinstance(made["headers"].pop("deep")[0][0][0][0][0][0][0][0], str)
    assert made["headers"] == {
        "n": 1.5,
        "big": "18446744073709551615",
        "nan": "nan",
        "price": "1.50",
        "raw": {"in": ["/w=="]},
        "at": "2026-11-28T00:00:00+00:00",
    }
    assert made["base64"] == ["raw"]


def test_a_message_that_is_too_large_says_how_large_it_is() -> None:
    large = content(body=b"x" * 100, headers={"abc": "def"})
    made = payload_of("a/b", large, whole=False)
    assert (made["truncated"], made["bytes"]) == (True, size_of(large)) == (True, 106)
    assert not {"body", "headers"} & set(made)


def test_the_time_is_the_publishers_if_it_is_one() -> None:
    at = datetime(2026, 11, 28, tzinfo=UTC)
    assert occurred_at(content(properties={"timestamp": at})) == at
    assert occurred_at(content(properties={"timestamp": at.replace(tzinfo=None)})) == at
    assert occurred_at(content()) is None
    assert occurred_at(content(properties={"timestamp": datetime(1970, 1, 1, tzinfo=UTC)})) is None
    assert occurred_at(content(properties={"timestamp": 1_764_298_800_123_456})) is None


@pytest.mark.parametrize("given", [1_764_298_800_123_456, 1_764_298_800_123_456_789, 2**64 - 1])
def test_a_time_in_another_unit_is_a_number(given: int) -> None:
    assert timestamp(struct.pack(">Q", given) + b"rest") == (8, given)


def test_usual_times_and_strings_are_read_as_they_are() -> None:
    assert timestamp(struct.pack(">Q", 1_764_298_800)) == (8, datetime(2025, 11, 28, 3, tzinfo=UTC))
    assert short_string(b"\x07gr\xc3\xb6\xc3\x9fe") == (8, "größe")
    assert short_string(b"\x02\xff\xfe") == (3, "\\xff\\xfe")
    with pytest.raises((ValueError, UnmarshalingException)):
        timestamp(b"\0\0")
    with pytest.raises(ValueError, match="without a length"):
        short_string(b"")
    with pytest.raises(ValueError, match="cut off"):
        short_string(b"\x03ab")


def test_a_header_whose_name_is_no_utf8_is_a_header() -> None:
    """A broker passes names on unread; one that cannot be decoded would end the connection at each delivery."""

    def entries(*pairs: tuple[bytes, bytes]) -> bytes:
        joined = b"".join(bytes([len(name)]) + name + value for name, value in pairs)
        return struct.pack(">I", len(joined)) + joined

    use_lenient_decoders()
    inner = b"F" + entries((b"gr\xf6\xdfe", b"t\x01"))
    whole = entries((b"gr\xf6\xdfe", b"S\0\0\0\x02ab"), (b"in", inner), (b"at", b"T" + struct.pack(">Q", 2**63)))
    wanted = {"gr\\xf6\\xdfe": "ab", "in": {"gr\\xf6\\xdfe": True}, "at": 2**63}
    assert table(whole + b"rest") == (len(whole), wanted)
    assert decode.by_type(whole, "table") == (len(whole), wanted)
    for end in range(len(whole)):
        with pytest.raises(ValueError, match=r".+"):
            table(whole[:end])


def test_servers_are_read() -> None:
    config = {
        "servers": {
            "default": {"url": "amqp://rabbit"},
            "tls": {
                "url": "amqps://[::1]:5673/my%2Fhost",
                "username": "u",
                "password": "s/password",
                "ca": "s/ca.crt",
                "prefetch": 5,
                "idHeader": "id",
            },
        }
    }
    plain = Server(
        name="default",
        host="rabbit",
        port=5672,
        vhost="/",
        tls=False,
        username=None,
        password=None,
        ca=None,
        prefetch=200,
        id_header=None,
    )
    assert servers_of(config) == {
        "default": plain,
        "tls": Server(
            name="tls",
            host="::1",
            port=5673,
            vhost="my/host",
            tls=True,
            username="u",
            password="s/password",
            ca="s/ca.crt",
            prefetch=5,
            id_header="id",
        ),
    }
    assert servers_of({"servers": {"a": {"url": "amqps://rabbit/"}}})["a"].port == 5671


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"server": {}}, "unknown field `server`"),
        ({"servers": {"a": {}}}, "missing required field `url`"),
        ({"servers": {"a/b": {"url": "amqp://r"}}}, "no name"),
        ({"servers": {"a": {"url": "http://r"}}}, "not like amqp://"),
        ({"servers": {"a": {"url": "amqp://r?heartbeat=0"}}}, "not like amqp://"),
        ({"servers": {"a": {"url": "amqp://u:p@r"}}}, "holds credentials"),
        ({"servers": {"a": {"url": "amqp://r:99999"}}}, "no number from 1 to 65535"),
        ({"servers": {"a": {"url": "amqp://r", "ca": "s/ca"}}}, "write amqps://"),
        ({"servers": {"a": {"url": "amqp://r", "username": "u"}}}, "belong together"),
        ({"servers": {"a": {"url": "amqp://r", "password": "s/p"}}}, "belong together"),
        ({"servers": {"a": {"url": "amqp://r", "password": "../../etc/passwd"}}}, "regex"),
        ({"servers": {"a": {"url": "amqp://r", "prefetch": 0}}}, "prefetch"),
        ({"servers": {"a": {"url": "amqp://r", "idHeader": ""}}}, "idHeader"),
    ],
)
def test_a_configuration_that_cannot_be_used_says_why(config: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        servers_of(config)


@pytest.mark.parametrize(("connection", "channel"), [(False, False), (True, True), (False, True)])
async def test_a_connection_that_the_client_lost_without_a_word_is_noticed(connection: bool, channel: bool) -> None:
    server = servers_of({"servers": {"default": {"url": "amqp://rabbit"}}})["default"]
    queue: Any = AmqpQueue(server, "orders", password=None, tls=None, name="test")
    queue._connection = SimpleNamespace(is_opened=True)
    queue._channel = SimpleNamespace(is_closed=False)
    await queue.hold([])
    queue._connection.is_opened, queue._channel.is_closed = connection, channel
    with pytest.raises(SourceError, match="rabbit:5672 has ended the connection"):
        await queue.hold([])
