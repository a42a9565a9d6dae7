"""The core pack's manifests agree with the program that serves them."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from support.rule_stream import rule_state

from attune_contract.resources import Rule as RuleResource
from attune_contract.resources import Sensor as SensorResource
from attune_sensor import InvalidRule, Rule
from attune_timer.handler import event_of
from attune_timer.instants import to_datetime
from attune_timer.parameters import INTERVAL_TIMER, UNITS, schedule_of

PACK = Path(__file__).parents[2] / "packs" / "core"
SENSOR = SensorResource.from_object(yaml.safe_load((PACK / "core.timer.yaml").read_text()))


def schemas(name: str) -> tuple[jsonschema.Draft202012Validator, jsonschema.Draft202012Validator]:
    declared = SENSOR.spec.canonical(name)
    assert declared is not None
    assert declared.parameters_schema is not None
    assert declared.payload_schema is not None
    for schema in (declared.parameters_schema, declared.payload_schema):
        jsonschema.Draft202012Validator.check_schema(schema)
    return (
        jsonschema.Draft202012Validator(declared.parameters_schema),
        jsonschema.Draft202012Validator(declared.payload_schema),
    )


def served(parameters: dict[str, Any]) -> bool:
    try:
        schedule_of(Rule(state=rule_state(parameters=parameters), since_us=0))
    except InvalidRule:
        return False
    return True


def test_alias_means_the_interval_timer() -> None:
    declared = SENSOR.spec.canonical("core.timer")
    assert declared is not None
    assert declared.name == INTERVAL_TIMER


def test_units_are_the_same() -> None:
    declared = SENSOR.spec.canonical(INTERVAL_TIMER)
    assert declared is not None
    assert declared.parameters_schema is not None
    assert declared.parameters_schema["properties"]["unit"]["enum"] == list(UNITS)


@pytest.mark.parametrize(
    "parameters",
    [
        {"interval": 1},
        {"interval": 0.5, "unit": "seconds"},
        {"interval": 3, "unit": "weeks", "anchor": "2026-01-01T00:00:00Z"},
        {"interval": 1, "start": "2026-01-01T00:00:00.5+01:00", "end": "2027-01-01t00:00:00z"},
    ],
)
def test_what_the_schema_takes_is_served(parameters: dict[str, Any]) -> None:
    schemas(INTERVAL_TIMER)[0].validate(parameters)
    assert served(parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"interval": -1},
        {"interval": 0},
        {"interval": "5"},
        {"interval": True},
        {"interval": 1, "unit": "fortnights"},
        {"interval": 1, "every": 1},
        {"interval": 1, "anchor": "tomorrow"},
        {"interval": 1, "anchor": "2026-01-01T00:00:00"},
        {"interval": 1, "end": "10000-01-01T00:00:00Z"},
        {"interval": 1, "start": 5},
    ],
)
def test_what_the_schema_refuses_is_not_served_either(parameters: dict[str, Any]) -> None:
    assert not schemas(INTERVAL_TIMER)[0].is_valid(parameters)
    assert not served(parameters)


def test_payload_is_as_declared() -> None:
    rule = Rule(state=rule_state(), since_us=0)
    occurrence = schedule_of(rule).next(10**15)
    assert occurrence is not None
    event = event_of(rule, occurrence, fired_at=to_datetime(occurrence.at + 90))
    schemas(INTERVAL_TIMER)[1].validate(event.payload)


def test_sample_rule_is_served() -> None:
    sample = RuleResource.from_object(yaml.safe_load((PACK / "echo-every-second.yaml").read_text()))
    assert SENSOR.spec.canonical(sample.spec.trigger.type) is not None
    schemas(INTERVAL_TIMER)[0].validate(sample.spec.trigger.parameters)
    assert served(sample.spec.trigger.parameters)
