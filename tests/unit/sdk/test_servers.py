"""Servers of a Sensor, and rules that name one: what sensors of brokers share."""

from typing import Any

import msgspec
import pytest
from support.rule_stream import rule_state

from attune_sensor import (
    InvalidRuleError,
    Rule,
    SettingsError,
    read_server_parameters,
    read_servers,
)


class Given(msgspec.Struct, forbid_unknown_fields=True):
    url: str


class Parameters(msgspec.Struct, forbid_unknown_fields=True):
    queue: str
    server: str = "default"


def build(name: str, given: Given) -> tuple[str, str]:
    if not given.url:
        raise ValueError("url is empty")
    return name, given.url


def rule(**parameters: Any) -> Rule:
    return Rule(state=rule_state(trigger_type="acme.queue", parameters=parameters), since_us=0)


def test_servers_are_built_of_their_names_and_what_is_written() -> None:
    assert read_servers({"servers": {"a": {"url": "x"}, "b": {"url": "y"}}}, Given, build) == {
        "a": ("a", "x"),
        "b": ("b", "y"),
    }
    assert read_servers({}, Given, build) == {}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"servers": {"a/b": {"url": "x"}}}, "spec.config.servers.a/b of the Sensor: 'a/b' is no name"),
        ({"servers": {"": {"url": "x"}}}, "spec.config.servers. of the Sensor: '' is no name"),
        ({"servers": {"a": {"url": ""}}}, "spec.config.servers.a of the Sensor: url is empty"),
        (
            {"servers": {"a": {}}},
            "spec.config of the Sensor cannot be used: Object missing required field `url` - at `$.servers",
        ),
        ({"servers": []}, "Expected `object`, got `array` - at `$.servers`"),
        ({"server": {}}, "unknown field `server`"),
    ],
)
def test_a_configuration_that_cannot_be_used_says_where_and_why(config: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_servers(config, Given, build)
    assert said in str(raised.value)


def test_a_rule_names_one_of_the_servers() -> None:
    assert read_server_parameters(rule(queue="q"), Parameters, ["default"]) == Parameters(queue="q")
    assert read_server_parameters(rule(queue="q", server="b"), Parameters, ["a", "b"]).server == "b"


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"queue": "q", "server": "b"}, "the Sensor has no server 'b' in spec.config.servers; it has a"),
        ({"queue": "q"}, "the Sensor has no server 'default' in spec.config.servers; it has a"),
        ({"queue": 1}, "Expected `str`, got `int` - at `parameters.queue`"),
        ({}, "missing required field `queue`"),
    ],
)
def test_a_rule_that_does_not_fit_says_why(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRuleError) as raised:
        read_server_parameters(rule(**parameters), Parameters, ["a"])
    assert said in str(raised.value)
