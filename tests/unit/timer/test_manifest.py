"""The core pack's manifests agree with the program that serves them."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rule_stream import rule_state

from attune_contract.resources import Rule as RuleResource
from attune_contract.resources import Sensor as SensorResource
from attune_contract.schemas.json_schema import JsonSchema
from attune_operator.resources.canonical import canonical_json
from attune_operator.rules.records import TriggerDeclaration
from attune_operator.rules.validation import check_parameters
from attune_sensor import InvalidRuleError, Rule
from attune_timer.handler import event_of
from attune_timer.parameters import CRON_TIMER, DATETIME_TIMER, INTERVAL_TIMER, UNITS, schedule_of, timer_of

PACK = Path(__file__).parents[3] / "packs" / "core"
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


def accepted(name: str, parameters: dict[str, Any]) -> bool:
    """Whether the operator accepts them."""
    declared = SENSOR.spec.canonical(name)
    assert declared is not None
    schema = JsonSchema(json.dumps(declared.parameters_schema).encode())
    return schema.violations(json.dumps(parameters).encode(), limit=1) == []


def served(parameters: dict[str, Any], name: str = INTERVAL_TIMER) -> bool:
    try:
        timer_of(Rule(state=rule_state(parameters=parameters, trigger_type=name), since_us=0))
    except InvalidRuleError:
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
    ("name", "parameters"),
    [
        (INTERVAL_TIMER, {"interval": 60, "jitter": 0.5, "missed": "all", "maxMissed": 10_000}),
        (CRON_TIMER, {"cron": "30 6 * * MON-FRI", "timezone": "Europe/Berlin", "missed": "once"}),
        (
            CRON_TIMER,
            {"cron": "@daily", "start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z", "jitter": 86400},
        ),
        (CRON_TIMER, {"cron": "*/5 * * * * *", "missed": "all", "maxMissed": 1}),
        (DATETIME_TIMER, {"at": "2026-01-01T00:00:00+02:00"}),
        (DATETIME_TIMER, {"at": "2026-01-01T00:00:00Z", "missed": "skip", "jitter": 1}),
    ],
)
def test_what_the_operator_accepts_is_served(name: str, parameters: dict[str, Any]) -> None:
    assert accepted(name, parameters)
    assert served(parameters, name)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        (INTERVAL_TIMER, {"interval": 60, "missed": "some"}),
        (INTERVAL_TIMER, {"interval": 60, "maxMissed": 0}),
        (INTERVAL_TIMER, {"interval": 60, "maxMissed": 10_001}),
        (INTERVAL_TIMER, {"interval": 60, "maxMissed": 1.5}),
        (INTERVAL_TIMER, {"interval": 60, "jitter": -1}),
        (INTERVAL_TIMER, {"interval": 60, "jitter": 86_401}),
        (INTERVAL_TIMER, {"interval": 60, "cron": "@daily"}),
        (CRON_TIMER, {}),
        (CRON_TIMER, {"cron": "61 * * * *"}),
        (CRON_TIMER, {"cron": "* * *"}),
        (CRON_TIMER, {"cron": "0 0 30 2 *"}),
        (CRON_TIMER, {"cron": 5}),
        (CRON_TIMER, {"cron": "@daily", "timezone": "Mars/Olympus"}),
        (CRON_TIMER, {"cron": "@daily", "timezone": 1}),
        (CRON_TIMER, {"cron": "@daily", "end": "10000-01-01T00:00:00Z"}),
        (DATETIME_TIMER, {}),
        (DATETIME_TIMER, {"at": "tomorrow"}),
        (DATETIME_TIMER, {"at": "10000-01-01T00:00:00Z"}),
        (DATETIME_TIMER, {"at": "2026-01-01T00:00:00Z", "maxMissed": 5}),
    ],
)
def test_what_the_operator_refuses_is_not_served_either(name: str, parameters: dict[str, Any]) -> None:
    assert not accepted(name, parameters)
    assert not served(parameters, name)


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [  # what the page docs/timers.md says of each
        (
            CRON_TIMER,
            {"cron": "61 * * * *"},
            "parameters.cron: '61 * * * *' is not a cron expression: the minute '61' is wrong",
        ),
        (
            CRON_TIMER,
            {"cron": "@daily", "timezone": "Mars/Olympus"},
            "'Mars/Olympus' is not a time zone: expected an IANA",
        ),
        (
            INTERVAL_TIMER,
            {"interval": 0},
            "parameters.interval: the interval is shorter than 0.1 seconds, the shortest",
        ),
        (
            INTERVAL_TIMER,
            {"interval": 1, "start": "2026-02-01T00:00:00Z", "end": "2026-01-31T23:59:59.999999Z"},
            "parameters.end: the end is before the start, so the timer would never fire",
        ),
        (
            CRON_TIMER,
            {"cron": "@daily", "start": "2026-01-01T00:00:00+01:00", "end": "2025-12-31T22:59:59Z"},
            "parameters.end: the end is before the start, so the timer would never fire",
        ),
        (
            DATETIME_TIMER,
            {"at": "10000-01-01T00:00:00Z"},
            "is not a time with a zone: write one that exists, like 2026",
        ),
        (DATETIME_TIMER, {"at": "2026-02-30T00:00:00Z"}, "is not a time with a zone: write one that exists, like 2026"),
        (
            INTERVAL_TIMER,
            {"interval": 99, "unit": "milliseconds"},
            "parameters.interval: the interval is shorter than 0.1",
        ),
        (
            INTERVAL_TIMER,
            {"interval": 522, "unit": "weeks"},
            "parameters.interval: the interval is longer than ten years",
        ),
        (INTERVAL_TIMER, {"interval": 1, "jitter": 2}, "parameters.jitter: the jitter is longer than the interval"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(name: str, parameters: dict[str, Any], sentence: str) -> None:
    declared = SENSOR.spec.canonical(name)
    assert declared is not None
    trigger = TriggerDeclaration(name=name, aliases=(), schema=canonical_json(declared.parameters_schema))
    said = check_parameters(parameters=canonical_json(parameters), value=parameters, trigger=trigger, sensor=SENSOR.ref)
    assert sentence in (said or "")
    assert not served(parameters, name)


times = st.sampled_from(
    ["2026-01-01T00:00:00Z", "2026-01-01T00:30:00+01:00", "2025-12-31t23:59:59.5z", "2026-02-30T00:00:00Z", "soon", 5]
)
numbers = st.one_of(
    st.sampled_from([0.1, 0.0999999, 1, 100, 99.999, 3653, 3654, 315_619_200, 315_619_201, "1", True, 1e300]),
    st.floats(0, 1e9),
    st.integers(-5, 10**6),
)
parameters_of = {
    INTERVAL_TIMER: st.fixed_dictionaries(
        {"interval": numbers},
        optional={
            "unit": st.sampled_from([*UNITS, "fortnights"]), "anchor": times, "start": times, "end": times, "jitter": numbers,
        },
    ),
    CRON_TIMER: st.fixed_dictionaries(
        {"cron": st.sampled_from(["@daily", "* * * * *", "61 * * * *"])},
        optional={"start": times, "end": times, "jitter": numbers},
    ),
    DATETIME_TIMER: st.fixed_dictionaries({"at": times}, optional={"jitter": numbers}),
}  # fmt: skip


@settings(deadline=None)
@given(st.sampled_from(sorted(parameters_of)).flatmap(lambda name: st.tuples(st.just(name), parameters_of[name])))
def test_operator_and_sensor_agree_on_every_rule(made: tuple[str, dict[str, Any]]) -> None:
    name, parameters = made
    assert accepted(name, parameters) == served(parameters, name)


def test_defaults_in_the_schemas_are_the_program_s() -> None:
    for name, parameters in (
        (INTERVAL_TIMER, {"interval": 1}),
        (CRON_TIMER, {"cron": "@daily"}),
        (DATETIME_TIMER, {"at": "2026-01-01T00:00:00Z"}),
    ):
        declared = SENSOR.spec.canonical(name)
        assert declared is not None
        assert declared.parameters_schema is not None
        properties = declared.parameters_schema["properties"]
        timer = timer_of(Rule(state=rule_state(parameters=parameters, trigger_type=name), since_us=0))
        assert timer.missed.missed == properties["missed"]["default"]
        assert timer.jitter == properties["jitter"]["default"]
        if "maxMissed" in properties:
            assert timer.missed.most == properties["maxMissed"]["default"]


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
    assert not accepted(INTERVAL_TIMER, parameters)
    assert not served(parameters)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        (INTERVAL_TIMER, {"interval": 1}),
        (CRON_TIMER, {"cron": "@daily"}),
        (DATETIME_TIMER, {"at": "2026-01-01T00:00:00Z"}),
    ],
)
def test_payload_is_as_declared(name: str, parameters: dict[str, Any]) -> None:
    rule = Rule(state=rule_state(parameters=parameters, trigger_type=name), since_us=0)
    occurrence = schedule_of(rule).next(10**15)
    assert occurrence is not None
    event = event_of(rule, occurrence, fired_at=occurrence.at + 90)
    schemas(name)[1].validate(event.payload)


def test_sample_rule_is_served() -> None:
    sample = RuleResource.from_object(yaml.safe_load((PACK / "echo-every-second.yaml").read_text()))
    assert SENSOR.spec.canonical(sample.spec.trigger.type) is not None
    schemas(INTERVAL_TIMER)[0].validate(sample.spec.trigger.parameters)
    assert served(sample.spec.trigger.parameters)
