"""Random objects of a tenant, up to what Kubernetes stores, in front of the operator's Rule side and of the API's checks.

Whatever stands in them, no step of the event loop takes longer than 100 ms of the processor's time, memory stays bounded,
and Rules of others go on being reconciled. The time of the garbage collector is told apart: it looks at the test's own
cluster as well, which keeps every object decoded.
"""

import asyncio
import json
import os
import random
import resource
import time
from typing import Any

import msgspec
import pytest
from support.eventually import until
from support.loop_watch import watching_steps
from support.nats_server import NatsServer
from support.rule_cluster import MemoryCluster
from support.rule_side import rule_side

from attune_api.events.ingest.payloads import Payload, PayloadChecks
from attune_api.identity.revocation import IdentityStates
from attune_api.metrics import Metrics
from attune_contract.messages import IdentityState
from attune_contract.resources import Sensor
from attune_operator.sensors import schemas

pytestmark = [pytest.mark.nats, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("TENANT_FUZZ_ROUNDS", "400"))
SEED = int(os.environ.get("TENANT_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
#: Seconds of the processor's time for one step.
LONGEST_STEP = 0.1
#: Bytes of an object that etcd takes, with room for what the API server adds.
_LARGEST = 1_300_000
_WORDS = ("a", "b", "interval", "name", "x" * 30, "größe", "a.b/c", "$ref", "__proto__", "0", " ")


def _pattern(rng: random.Random) -> str:
    pieces = [
        f"[ab]*a[ab]{{{rng.randint(1, 400)}}}c",
        f"a{{{rng.randint(1, 900)}}}",
        r"\w+",
        "(a|b|cc)*",
        ".*",
        r"\p{L}",
        "^",
        "$",
    ]
    return "".join(rng.choice(pieces) for _ in range(rng.randint(1, 6)))


def _schema(rng: random.Random, depth: int = 0) -> Any:
    kinds = ["pattern", "format", "enum", "range", "bool"]
    if depth < 5:
        kinds += ["properties", "items", "combine", "names", "ref", "unevaluated"]
    match rng.choice(kinds):
        case "pattern":
            return {"type": "string", "pattern": _pattern(rng), "maxLength": rng.choice([10, 10**6])}
        case "format":
            return {"format": rng.choice(["cron", "timezone", "date-time", "uri", "email", "regex"])}
        case "enum":
            return {"enum": [rng.choice(_WORDS) + str(k) for k in range(rng.choice([1, 10, 2000]))]}
        case "range":
            return {
                "type": "number",
                "multipleOf": rng.choice([1, 0.1, 1e-300]),
                "exclusiveMinimum": rng.uniform(-9, 9),
            }
        case "bool":
            return rng.random() < 0.8
        case "properties":
            many = rng.choice([1, 3, 300])
            return {
                "type": "object",
                "properties": {
                    f"{rng.choice(_WORDS)}{k}": _schema(rng, depth + (3 if many > 9 else 1)) for k in range(many)
                },
                "required": rng.sample(_WORDS, 2),
                "additionalProperties": rng.random() < 0.5,
            }
        case "items":
            return {
                "items": _schema(rng, depth + 1),
                "uniqueItems": rng.random() < 0.3,
                "contains": _schema(rng, depth + 1),
            }
        case "combine":
            how = rng.choice(["allOf", "anyOf", "oneOf"])
            return {how: [_schema(rng, depth + 2) for _ in range(rng.randint(1, 12))]}
        case "names":
            return {
                "patternProperties": {_pattern(rng): _schema(rng, depth + 1)},
                "propertyNames": {"pattern": _pattern(rng)},
            }
        case "ref":
            width = rng.randint(1, 10)
            steps = {f"r{k}": {"anyOf": [{"$ref": f"#/$defs/r{k + 1}"}] * width} for k in range(rng.randint(1, 8))}
            return {"$defs": {**steps, f"r{len(steps)}": True}, "$ref": "#/$defs/r0"}
        case _:
            return {"allOf": [_schema(rng, depth + 2)] * rng.randint(1, 3), "unevaluatedProperties": False}


class _Values:
    """Random JSON of at most about ``budget`` bytes."""

    def __init__(self, rng: random.Random, budget: int) -> None:
        self._rng = rng
        self._left = budget

    def next(self, depth: int = 0) -> Any:
        rng = self._rng
        self._left -= 10
        if self._left <= 0:
            return None
        kinds = ["word", "number", "constant", "text"]
        match rng.choice(kinds + ["object", "list", "many"] * 2 if depth < 8 else kinds):
            case "word":
                return rng.choice(_WORDS)
            case "number":
                return rng.choice([0, -1, 1.5, 1e300, 10**18])
            case "constant":
                return rng.choice([None, True, False])
            case "text":
                length = min(rng.choice([10, 1000, 300_000]), max(self._left, 0))
                self._left -= length
                return rng.choice("aé*") * length
            case "object":
                return {f"{rng.choice(_WORDS)}{k}": self.next(depth + 1) for k in range(rng.choice([1, 5, 40]))}
            case "list":
                return [self.next(depth + 1) for _ in range(rng.randint(0, 8))]
            case _:
                many = min(rng.choice([10, 1000, 50_000]), max(self._left // 8, 0))
                self._left -= 8 * many
                return [rng.choice(_WORDS[:3])] * many


def _schema_text(rng: random.Random) -> tuple[Any, str]:
    """A schema that Kubernetes would store."""
    while True:
        schema = _schema(rng)
        text = json.dumps(schema)
        if len(text) < _LARGEST:
            return schema, text


def _parameters(rng: random.Random) -> dict[str, Any]:
    values = _Values(rng, rng.choice([100, 10_000, _LARGEST]))
    return {rng.choice(_WORDS): values.next() for _ in range(rng.randint(0, 3))}


def _peak() -> float:
    """MiB that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def test_the_operators_loop_is_never_held_up(nats_server: NatsServer) -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    cluster = MemoryCluster()
    for name in ("attune-system", "good", "evil"):
        cluster.namespace(name)
    timer = {
        "name": "core.timer",
        "parametersSchema": {"type": "object", "properties": {"interval": {"type": "number"}}},
    }
    cluster.sensor("attune-system", "core.timer", timer, rules={"namespaces": {"from": "All"}})
    before = _peak()
    with watching_steps(ignoring="MemoryCluster.list") as longest:
        async with rule_side(cluster, nats_server.url) as side:
            await side.synced("attune-system/core.timer")
            for number in range(ROUNDS):
                name = f"evil-{rng.randrange(20)}"
                declared = {"name": f"evil.t{rng.randrange(20)}", "parametersSchema": _schema_text(rng)[0]}
                cluster.sensor("evil", name, declared, rules={"namespaces": {"from": rng.choice(["All", "Same"])}})
                trigger = {"type": rng.choice([declared["name"], "core.timer"]), "parameters": _parameters(rng)}
                cluster.rule_with("evil", f"rule-{rng.randrange(50)}", {"trigger": trigger})
                await longest.excuse()
                if number % 20 == 0:
                    cluster.rule("good", "mine", "core.timer", interval=number + 1)
                    generation = cluster.get("Rule", "good", "mine")["metadata"]["generation"]
                    await until(lambda least=generation: _observed(cluster) >= least, within=60)  # type: ignore[misc]
    print(f"Rules: {ROUNDS} rounds, {longest}, memory {before:.0f} → {_peak():.0f} MiB, load {os.getloadavg()[0]:.1f}")
    assert longest.seconds < LONGEST_STEP, longest.what
    assert _peak() - before < 400


async def test_the_operators_loop_is_not_held_up_by_a_sensors_schemas() -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    before, usable = _peak(), 0
    metadata = {"name": "evil", "namespace": "evil", "uid": "u", "creationTimestamp": "2026-11-23T12:00:00Z"}
    with watching_steps() as longest:
        for number in range(ROUNDS // 4):
            sensor = Sensor.model_validate(
                {"metadata": metadata, "spec": {"image": "a:1", "triggerTypes": _trigger_types(rng, number)}}
            )
            await longest.excuse()
            await schemas.look_at(sensor)
            usable += schemas.problem(sensor) is None
            await asyncio.sleep(0)  # as in the operator: its requests are between the two
            schemas.payload_schemas(sensor)
            await asyncio.sleep(0)
    print(f"Sensors: {ROUNDS // 4}, {usable} usable, {longest}, memory {before:.0f} → {_peak():.0f} MiB")
    assert longest.seconds < LONGEST_STEP, longest.what
    assert _peak() - before < 400


def _trigger_types(rng: random.Random, number: int) -> list[dict[str, Any]]:
    """Those of one Sensor, with schemas of as many bytes as Kubernetes stores."""
    found: list[dict[str, Any]] = []
    left = _LARGEST
    kinds = rng.choice([["random"], ["names", "lists", "random"]])
    while len(found) < 32:
        schema: Any
        match rng.choice(kinds):
            case "names":
                schema = {"properties": {f"p{number}-{k}": {"type": "string"} for k in range(rng.randint(1, 990))}}
            case "lists":
                schema = {"title": str(number), "examples": [[[]] * rng.randint(1, 80_000)]}
            case _:
                schema = _schema(rng)
        left -= len(json.dumps(schema))
        if left < 0:
            break
        field = rng.choice(["parametersSchema", "payloadSchema"])
        found.append({"name": f"evil.t{len(found)}", field: schema if isinstance(schema, dict) else {"not": {}}})
    return found or [{"name": "evil.t0"}]


def _observed(cluster: MemoryCluster) -> int:
    return int(cluster.get("Rule", "good", "mine").get("status", {}).get("observedGeneration") or 0)


async def test_the_apis_loop_is_never_held_up() -> None:
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    states = IdentityStates()
    checks = PayloadChecks(states=states, metrics=Metrics())
    before, judged = _peak(), 0
    with watching_steps() as longest:
        for number in range(ROUNDS):
            _, text = _schema_text(rng)
            payloads = [json.dumps({"k": _Values(rng, size).next()}).encode() for size in (1_000_000, *[1000] * 20)]
            await longest.excuse()
            states.apply(
                IdentityState(
                    sensor_ref="evil/s", uid=str(number), trigger_types=("e.t",), payload_schemas={"e.t": text}
                )
            )
            schema = checks.schema_of(sensor_ref="evil/s", trigger_type="e.t")
            if schema is None:
                continue
            kept = [Payload(schema, "e.t", msgspec.Raw(each)) for each in payloads if len(each) < 1024 * 1024][:200]
            began = time.monotonic()
            await checks.check(kept)
            judged += len(kept)
            assert time.monotonic() - began < 60
    print(f"API: {judged} payloads, {longest}, memory {before:.0f} → {_peak():.0f} MiB, load {os.getloadavg()[0]:.1f}")
    assert longest.seconds < LONGEST_STEP, longest.what
    assert _peak() - before < 400
