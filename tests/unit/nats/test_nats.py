"""The NATS sensor's rules, payloads and configuration; and that its manifest agrees with its program."""

from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.rule_stream import rule_state

from attune_contract.resources import Sensor as SensorResource
from attune_nats.config import servers_of
from attune_nats.parameters import Subscription, own_consumer, subscription_of
from attune_nats.payload import Content, payload_of
from attune_sensor import InvalidRuleError, Message, Rule, SettingsError

PACK = Path(__file__).parents[3] / "packs" / "nats" / "core.nats.yaml"
SENSOR = SensorResource.from_object(yaml.safe_load(PACK.read_text()))
DECLARED = SENSOR.spec.canonical("core.natsstream")
assert DECLARED is not None
PAYLOADS = jsonschema.Draft202012Validator(DECLARED.payload_schema or {})
PARAMETERS = jsonschema.Draft202012Validator(DECLARED.parameters_schema or {})


def rule(**parameters: Any) -> Rule:
    return Rule(state=rule_state(trigger_type="core.natsstream", parameters=parameters), since_us=0)


@pytest.mark.parametrize(
    ("parameters", "good"),
    [
        ({"stream": "ORDERS"}, True),
        ({"stream": "ORDERS", "server": "default", "consumer": "c", "from": "beginning", "subject": "a.*.b.>"}, True),
        ({"stream": "ORDERS", "subject": ">"}, True),
        ({"stream": "ORDERS", "subject": "*"}, True),
        ({"stream": "ORDERS", "subject": "a.>.b"}, False),
        ({"stream": "ORDERS", "subject": "a..b"}, False),
        ({"stream": "ORDERS", "subject": "a*"}, False),
        ({"stream": "ORDERS", "subject": ""}, False),
        ({}, False),
        ({"stream": ""}, False),
        ({"stream": "a.b"}, False),
        ({"stream": "a b"}, False),
        ({"stream": "ORDERS", "consumer": "a/b"}, False),
        ({"stream": "ORDERS", "consumer": "x" * 256}, False),
        ({"stream": "ORDERS", "from": "yesterday"}, False),
        ({"stream": "ORDERS", "password": "secret"}, False),
    ],
)
def test_the_manifest_and_the_program_agree(parameters: dict[str, Any], good: bool) -> None:
    assert PARAMETERS.is_valid(parameters) == good
    if good:
        subscription_of(rule(**parameters), servers=["default"], sensor="a/b")
    else:
        with pytest.raises(InvalidRuleError):
            subscription_of(rule(**parameters), servers=["default"], sensor="a/b")


def test_the_samples_and_the_configuration_of_the_pack_can_be_used() -> None:
    for sample in (DECLARED.parameters_schema or {})["examples"] if DECLARED else []:
        subscription_of(rule(**sample), servers=servers_of(SENSOR.spec.config or {}), sensor="a/b")


def test_rules_share_what_they_read_alike() -> None:
    def read(**parameters: Any) -> Subscription:
        return subscription_of(rule(stream="ORDERS", **parameters), servers=["default", "other"], sensor="a/b")

    assert read() == read(server="default")
    assert len({read(), read(subject="a"), read(server="other"), read(consumer="c")}) == 4


def test_names_of_consumers_can_be_used_and_differ() -> None:
    names = {
        own_consumer(sensor, subject, start)
        for sensor in ("attune-system/core.nats", "attune-system/core.nats2")
        for subject in (None, "a.>", "a.*")
        for start in ("new", "beginning")
    }
    assert len(names) == 12
    assert all(not set(name) & set(". */\\>") for name in names)


@given(st.binary(), st.dictionaries(st.text(), st.text()), st.text(), st.booleans())
def test_payloads_are_json_that_the_manifest_declares(
    data: bytes, headers: dict[str, str], subject: str, whole: bool
) -> None:
    content = Content(server="default", stream="ORDERS", subject=subject, sequence=7, headers=headers, data=data)
    message = Message(partition="", occurrence="x", content=content, size=len(data))
    text = msgspec.json.encode(payload_of("shop/orders", message, whole=whole))
    payload = msgspec.json.decode(text)
    PAYLOADS.validate(payload)
    assert ("body" in payload) == whole
    assert b"\\u0000" not in text.replace(b"\\\\", b"")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"server": {}}, "unknown field `server`"),
        ({"servers": {"a": {}}}, "missing required field `url`"),
        ({"servers": {"a/b": {"url": "nats://r"}}}, "no name"),
        ({"servers": {"a": {"url": "http://r"}}}, "not like nats://"),
        ({"servers": {"a": {"url": "nats://r,"}}}, "not like nats://"),
        ({"servers": {"a": {"url": "nats://u:p@r"}}}, "holds credentials"),
        ({"servers": {"a": {"url": "nats://r:99999"}}}, "no number from 1 to 65535"),
        ({"servers": {"a": {"url": "nats://r", "username": "u"}}}, "without password"),
        ({"servers": {"a": {"url": "nats://r", "password": "s/p", "credentials": "s/c"}}}, "exclude each other"),
        ({"servers": {"a": {"url": "nats://r", "credentials": "../../etc/passwd"}}}, "regex"),
    ],
)
def test_a_configuration_that_cannot_be_used_says_why(config: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        servers_of(config)
