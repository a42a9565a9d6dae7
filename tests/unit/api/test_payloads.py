"""Payloads against schemas: what does not fit is refused with words, what cannot be checked is taken."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from attune_api.events.ingest.payloads import Payload, PayloadChecks
from attune_api.identity.revocation import IdentityStates
from attune_api.metrics import Metrics
from attune_contract.messages import IdentityState
from attune_contract.resources import Sensor
from attune_operator.sensors.schemas import payload_schemas, problem

REF, TYPE = "default/heat", "edge.heat"
PACKS = Path(__file__).parents[3] / "packs" / "core"


class Checker:
    def __init__(self) -> None:
        self.states = IdentityStates()
        self.metrics = Metrics()
        self.checks = PayloadChecks(states=self.states, metrics=self.metrics)

    def say(self, schema: str) -> None:
        self.states.apply(IdentityState(sensor_ref=REF, uid="1", trigger_types=(TYPE,), payload_schemas={TYPE: schema}))

    async def problems(self, *payloads: dict[str, Any]) -> list[str | None]:
        schema = self.checks.schema_of(sensor_ref=REF, trigger_type=TYPE)
        if schema is None:
            return [None] * len(payloads)
        texts = [msgspec.Raw(json.dumps(payload).encode()) for payload in payloads]
        return await self.checks.check([Payload(schema, TYPE, text) for text in texts])

    def unchecked(self, reason: str) -> float:
        return float(
            self.metrics.registry.get_sample_value("attune_api_payloads_unchecked_total", {"reason": reason}) or 0
        )


@pytest.fixture
def checker() -> Checker:
    return Checker()


async def test_a_payload_that_does_not_fit_is_refused_with_words(checker: Checker) -> None:
    checker.say('{"type": "object", "required": ["celsius"], "properties": {"celsius": {"type": "number"}}}')
    assert await checker.problems({"celsius": 7}, {}, {"celsius": "warm"}) == [
        None,
        "payload: 'celsius' is a required property",
        "payload.celsius: 'warm' is not of type 'number'",
    ]


async def test_a_schema_that_is_not_plain_counts_too(checker: Checker) -> None:
    checker.say('{"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}')
    answers = await checker.problems({"a": 1}, {"a": 1, "b": 2}, {})
    assert answers[0] is None
    assert answers[1] is not None
    assert answers[2] is not None


async def test_a_type_without_schema_and_a_sensor_outside_take_any_payload(checker: Checker) -> None:
    assert await checker.problems({"anything": [1]}) == [None]
    checker.say("false")
    assert checker.checks.schema_of(sensor_ref=REF, trigger_type="edge.cold") is None
    assert checker.checks.schema_of(sensor_ref="default/other", trigger_type=TYPE) is None


@pytest.mark.parametrize(
    "schema", ['{"type": "nothing"}', '{"pattern": "(?=x)"}', '{"$ref": "https://example.org/x"}', "{", '{"$ref": "#"}']
)
async def test_a_schema_that_cannot_be_used_takes_no_event_away(checker: Checker, schema: str) -> None:
    checker.say(schema)
    assert await checker.problems({"a": "b"}) == [None]
    assert checker.unchecked("unusable") == 1


async def test_a_costly_schema_takes_neither_time_nor_events(checker: Checker) -> None:
    fan = {f"f{n}": {"anyOf": [{"$ref": f"#/$defs/f{n + 1}"}] * 10} for n in range(8)}
    checker.say(json.dumps({"$defs": {**fan, "f8": {"type": "null"}}, "$ref": "#/$defs/f0"}))
    began = time.monotonic()
    assert await checker.problems({"a": 1}) == [None]
    assert time.monotonic() - began < 60  # unbounded it would take hours
    assert checker.unchecked("costly") == 1


async def test_many_slow_checks_of_one_request_end(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune_api.events.ingest.payloads._SECONDS", 0.0)
    checker.say('{"not": {"required": ["bad"]}}')
    answers = await checker.problems(*[{"bad": 1}] * 1000)
    assert len(answers) == 1000
    assert answers[0] is not None
    assert checker.unchecked("busy") == 999


async def test_a_long_check_leaves_the_loop_to_others(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune_api.events.ingest.payloads._SLICE", 0.001)
    checker.say('{"items": {"not": {"required": ["bad"]}}}')
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    await checker.problems(*[{"k": list(range(1000))}] * 500)
    task.cancel()
    assert turns > 3


def _sensor(*types: dict[str, Any]) -> Sensor:
    return Sensor.model_validate(
        {
            "apiVersion": "attune.dev/v1alpha1",
            "kind": "Sensor",
            "metadata": {"name": "heat", "namespace": "default", "uid": "1"},
            "spec": {"image": "none", "triggerTypes": list(types)},
        }
    )


def test_the_operator_publishes_the_schemas_that_can_be_used() -> None:
    sensor = _sensor(
        {"name": TYPE, "payloadSchema": {"type": "object"}},
        {"name": "edge.cold", "payloadSchema": {"type": "nothing"}},
        {"name": "edge.any"},
    )
    assert payload_schemas(sensor) == {TYPE: '{"type":"object"}'}


def test_schemas_that_are_too_large_together_are_said_and_not_published() -> None:
    types = [{"name": f"edge.t{n}", "payloadSchema": {"description": "x" * 200_000}} for n in range(3)]
    assert payload_schemas(_sensor(*types)) == {}
    found = problem(_sensor(*types))
    assert found is not None
    assert "can be published" in found[1]


SENSORS = {
    path.stem: document
    for path in sorted(PACKS.glob("core.*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document["kind"] == "Sensor"
}


@pytest.mark.parametrize("name", SENSORS)
async def test_the_core_packs_schemas_can_be_used(checker: Checker, name: str) -> None:
    sensor = SENSORS[name]
    metadata = {**sensor["metadata"], "namespace": "default", "uid": "1"}
    for schema in payload_schemas(Sensor.model_validate({**sensor, "metadata": metadata})).values():
        checker.say(schema)
        await checker.problems({"nothing": "of it"})
        assert checker.unchecked("unusable") == 0
