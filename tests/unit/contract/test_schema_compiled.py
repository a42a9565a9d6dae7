"""Compiled schemas are kept within bounds, and are compiled in steps of their own."""

import asyncio
import json
from collections.abc import Awaitable

from attune_contract.resources import Sensor
from attune_contract.schemas.compiled import CompiledSchemas
from attune_contract.schemas.structure import UnusableSchemaError
from attune_operator.sensors import schemas


def _schema(number: int, size: int = 0) -> bytes:
    return json.dumps({"type": "integer", "minimum": number, "title": "x" * size}).encode()


def test_a_schema_is_compiled_once_and_why_one_cannot_be_used_is_remembered() -> None:
    kept = CompiledSchemas()
    assert kept.get(_schema(1)) is kept.get(_schema(1))
    bad = kept.get(b'{"type": "objekt"}')
    assert isinstance(bad, UnusableSchemaError)
    assert kept.get(b'{"type": "objekt"}') is bad
    assert bad.__cause__ is None
    assert bad.__traceback__ is None


def test_all_that_is_kept_has_a_bound_in_bytes_and_the_oldest_go_first() -> None:
    kept = CompiledSchemas(most_bytes=3000)
    for number in range(100):
        kept.get(_schema(number, size=900))
        kept.get(_schema(0, size=900))  # asked for all the time, so it stays
    assert 2 <= len(kept) <= 3
    assert _schema(0, size=900) in kept
    assert _schema(99, size=900) in kept
    assert _schema(50, size=900) not in kept


def test_one_that_is_larger_than_the_bound_is_kept_until_the_next() -> None:
    kept = CompiledSchemas(most_bytes=10)
    kept.get(_schema(1))
    assert _schema(1) in kept
    kept.get(_schema(2))
    assert len(kept) == 1


async def test_others_have_their_turn_between_the_schemas_of_one_sensor() -> None:
    """Ten schemas of 120 KB each, of which one takes some ten milliseconds."""
    declared = [
        {"name": f"evil.t{number}", "parametersSchema": {"title": f"turns {number}", "examples": [[[]] * 40_000]}}
        for number in range(10)
    ]
    metadata = {"name": "evil", "namespace": "evil", "uid": "u", "creationTimestamp": "2026-11-23T12:00:00Z"}
    sensor = Sensor.model_validate({"metadata": metadata, "spec": {"image": "a:1", "triggerTypes": declared}})
    assert await _turns_of_others(schemas.look_at(sensor)) >= 8
    assert schemas.problem(sensor) is None


async def _turns_of_others(work: Awaitable[None]) -> int:
    """How often another task has its turn while this is done."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        counting = group.create_task(count())
        await work
        counting.cancel()
    return turns
