"""Checks of payloads by their schemas, in this process, beside the same checks by the library ``jsonschema``.

The ratio is how many times as long ``jsonschema``, which is written in Python, takes for the payload of the core timer.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jsonschema
import msgspec
import yaml

from attune_contract.schemas.json_schema import JsonSchema

_TIMER: Final = Path(__file__).parents[2] / "packs" / "core" / "core.timer.yaml"
_PAYLOAD: Final = {
    "scheduled_at": "2026-11-23T12:00:00.000000Z",
    "fired_at": "2026-11-23T12:00:00.000100Z",
    "k": 5,
    "rule": "default/echo-every-second",
}
#: Alternatives and references.
_NESTED: Final = {
    "$defs": {"row": {"required": ["v"], "properties": {"v": {"anyOf": [{"type": "number"}, {"type": "null"}]}}}},
    "type": "object",
    "properties": {"rows": {"type": "array", "items": {"$ref": "#/$defs/row"}}},
}


def _microseconds(work: Callable[[], object], times: int) -> float:
    """The best of several rounds, in microseconds of CPU for each call."""
    best = float("inf")
    for _ in range(7):
        began = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - began) / times)
    return best * 1e6


def _measure(schema: Any, payload: Any) -> dict[str, float]:
    text, schema_text = msgspec.json.encode(payload), msgspec.json.encode(schema)
    ours, theirs = JsonSchema(schema_text), jsonschema.Draft202012Validator(schema)
    if not ours.fits(text) or not theirs.is_valid(payload):
        raise RuntimeError("the payload does not fit the schema")
    return {
        "check_us": round(_microseconds(lambda: ours.fits(text), 2000), 2),
        "jsonschema_check_us": round(_microseconds(lambda: theirs.is_valid(payload), 100), 2),
        "compile_us": round(_microseconds(lambda: JsonSchema(schema_text), 20), 1),
    }


async def run() -> dict[str, object]:
    """Measure."""
    sensor = next(each for each in yaml.safe_load_all(_TIMER.read_text()) if each["kind"] == "Sensor")
    timer = _measure(sensor["spec"]["triggerTypes"][0]["payloadSchema"], _PAYLOAD)
    nested = _measure(_NESTED, {"rows": [{"v": k} for k in range(5)]})
    return {
        "ratio": round(timer["jsonschema_check_us"] / timer["check_us"], 1),
        "nested_ratio": round(nested["jsonschema_check_us"] / nested["check_us"], 1),
        "timer": timer,
        "nested": nested,
    }
