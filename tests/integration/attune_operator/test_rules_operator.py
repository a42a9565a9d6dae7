"""The whole operator with a real kube-apiserver and a real NATS server, from the Rule's side."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.eventually import until
from support.kubectl_user import KubectlUser
from support.nats_server import NatsServer
from support.rule_side import Stream

from attune_contract.messages import NEVER_FIRES, AckState
from attune_operator.app import Operator
from attune_operator.resources import kinds
from attune_operator.runtime.client import ClusterError

pytest_plugins = ["support.operator_fixtures"]

pytestmark = [pytest.mark.apiserver, pytest.mark.nats]

SCHEMA = {
    "type": "object",
    "required": ["interval"],
    "properties": {"interval": {"type": "number", "exclusiveMinimum": 0}, "unit": {"enum": ["seconds", "minutes"]}},
    "additionalProperties": False,
}


class Rules:
    """Somebody who applies Rules."""

    def __init__(self, user: KubectlUser) -> None:
        self.user = user

    async def sensor(self) -> str:
        trigger = {"name": "core.intervaltimer", "aliases": ["core.timer"], "parametersSchema": SCHEMA}
        await self.user.apply_sensor(triggerTypes=[trigger])
        return f"{self.user.namespace}/core.timer"

    async def apply(
        self, name: str, kind: str = "core.timer", *, enabled: bool = True, **parameters: Any
    ) -> dict[str, Any]:
        applied: dict[str, Any] = await self.user.client.call(
            "PATCH",
            kinds.RULE.path(self.user.namespace, name),
            query={"fieldManager": "kubectl", "force": "true"},
            body={
                "apiVersion": "attune.dev/v1alpha1",
                "kind": "Rule",
                "metadata": {"name": name, "namespace": self.user.namespace},
                "spec": {"enabled": enabled, "trigger": {"type": kind, "parameters": parameters}},
            },
            content_type="application/apply-patch+yaml",
        )
        return applied

    async def condition(self, name: str, kind: str) -> dict[str, Any]:
        found = await self.user.get(kinds.RULE, name)
        conditions = found.get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == kind), {})

    async def says(self, name: str, kind: str, status: str, reason: str) -> dict[str, Any]:
        async def probe() -> dict[str, Any] | None:
            seen = await self.condition(name, kind)
            return seen if (seen.get("status"), seen.get("reason")) == (status, reason) else None

        said: dict[str, Any] = await until(probe, within=20, what=f"{name}: {kind} {status} {reason}")
        return said


@pytest.fixture
def rules(user: KubectlUser) -> Rules:
    return Rules(user)


@pytest.fixture
def stream(nats_server: NatsServer) -> Stream:
    return Stream(nats_server.url)


@pytest.mark.alone
async def test_a_rules_life(operator: Operator, rules: Rules, stream: Stream) -> None:
    ref = await rules.sensor()
    applied = await rules.apply("echo", interval=1, unit="seconds")
    uid = applied["metadata"]["uid"]
    await rules.says("echo", "Accepted", "True", "Accepted")
    await rules.says("echo", "Active", "False", "AwaitingSensor")
    await stream.shows(_told, {uid: (1, True, {"interval": 1, "unit": "seconds"})})

    await until(rules.user.pods, within=20)
    await rules.user.run_pods()
    await until(lambda: _waits_for_word(rules), within=20)
    await stream.ack(ref, uid, 1)
    await rules.says("echo", "Active", "True", "Active")

    for generation, (enabled, interval) in enumerate(((True, 2), (False, 2), (True, 3)), start=2):
        await rules.apply("echo", enabled=enabled, interval=interval)
        await stream.shows(_told, {uid: (generation, enabled, {"interval": interval})}, within=1.0)
    await stream.ack(ref, uid, 4, AckState.REJECTED, "no room for it")
    said = await rules.says("echo", "Active", "False", "Rejected")
    assert (said["message"], said["observedGeneration"]) == ("no room for it", 4)

    async def counted() -> bool:
        sensor = await rules.user.get(kinds.SENSOR, "core.timer")
        return bool(sensor["status"].get("rules") == {"bound": 1, "active": 0, "rejected": 1})

    await until(counted)
    await rules.user.delete(kinds.RULE, "echo")
    await stream.shows(_told, {})


async def test_when_a_rule_is_due_next_is_in_its_status(operator: Operator, rules: Rules, stream: Stream) -> None:
    ref = await rules.sensor()
    uid = (await rules.apply("hourly", interval=60, unit="minutes"))["metadata"]["uid"]
    await stream.shows(_told, {uid: (1, True, {"interval": 60, "unit": "minutes"})})
    await until(rules.user.pods, within=60)
    await rules.user.run_pods()

    async def next_time() -> str | None:
        found: str | None = (await rules.user.get(kinds.RULE, "hourly")).get("status", {}).get("nextTime")
        return found

    async def shows(time: str | None) -> None:
        async def probe() -> bool:
            return await next_time() == time

        await until(probe, within=60, what=f"nextTime is {time}")

    await stream.ack(ref, uid, 1, next_at=datetime(2026, 11, 28, 6, 0, 0, 250_000, tzinfo=UTC))
    await rules.says("hourly", "Active", "True", "Active")
    await shows("2026-11-28T06:00:00Z")
    await stream.ack(ref, uid, 1, next_at=datetime(2099, 1, 1, tzinfo=UTC))
    await shows("2099-01-01T00:00:00Z")
    await stream.ack(ref, uid, 1, AckState.COMPLETED, f"{NEVER_FIRES}: its time was over.")
    await rules.says("hourly", "Active", "False", "NeverFires")
    await rules.says("hourly", "Ready", "True", "NeverFires")
    await shows(None)


async def _waits_for_word(rules: Rules) -> bool:
    return "has not acknowledged" in (await rules.condition("echo", "Active")).get("message", "")


async def _told(stream: Stream) -> dict[str, tuple[int, bool, dict[str, Any]]]:
    return {s.uid: (s.generation, s.enabled, s.parameters) for s in (await stream.states()).values()}


async def test_what_is_wrong_with_a_rule_shows_in_kubectl(operator: Operator, rules: Rules) -> None:
    await rules.sensor()
    await rules.apply("negative", interval=-1)
    await rules.apply("fortnights", interval=1, unit="fortnights")
    await rules.apply("unknown", "core.intervaltimr", interval=1)
    await rules.apply("good", interval=1)
    said = await rules.says("negative", "Accepted", "False", "InvalidParameters")
    assert said["message"] == "parameters.interval: -1 is less than or equal to the minimum of 0"
    said = await rules.says("fortnights", "Accepted", "False", "InvalidParameters")
    assert "is not one of ['seconds', 'minutes']" in said["message"]
    said = await rules.says("unknown", "Accepted", "False", "UnknownTriggerType")
    assert "Did you mean core.intervaltimer" in said["message"]
    await rules.says("good", "Accepted", "True", "Accepted")

    async def events() -> bool:
        reasons = {event["reason"] for name in ("negative", "unknown") for event in await rules.user.events(name)}
        return reasons == {"InvalidParameters", "UnknownTriggerType"}

    await until(events)


async def test_a_malformed_rule_is_refused_at_admission(operator: Operator, rules: Rules) -> None:
    with pytest.raises(ClusterError, match=r"spec\.trigger\.type"):
        await rules.apply("bad", "Not A Type")


async def test_a_rule_is_nothing_but_what_its_author_wrote_and_its_status(operator: Operator, rules: Rules) -> None:
    await rules.sensor()
    await rules.apply("echo", interval=1)
    await rules.says("echo", "Accepted", "True", "Accepted")
    found = await rules.user.get(kinds.RULE, "echo")
    assert "finalizers" not in found["metadata"]
    assert "annotations" not in found["metadata"]
    trigger = {"type": "core.timer", "parameters": {"interval": 1}}
    assert found["spec"] == {"enabled": True, "order": "Concurrent", "trigger": trigger}
    assert set(found["status"]) == {"observedGeneration", "sensor", "conditions"}
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]


INTERVAL, CRON, ONCE = "core.intervaltimer", "core.crontimer", "core.datetimetimer"
#: By the Rule's name: what it asks for, and the row of docs/timers.md that says what becomes of it.
WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "minute-61": (CRON, {"cron": "61 * * * *"}, "cron `61 * * * *`"),
    "never": (CRON, {"cron": "0 0 30 2 *"}, "cron `0 0 30 2 *`"),
    "zone-inside": (CRON, {"cron": "CRON_TZ=UTC 0 6 * * *"}, "cron `CRON_TZ=UTC 0 6 * * *`"),
    "mars": (CRON, {"cron": "@daily", "timezone": "Mars/Olympus"}, "timezone `Mars/Olympus`"),
    "nothing": (INTERVAL, {"interval": 0}, "interval 0, or below 0.1 seconds"),
    "backwards": (
        CRON,
        {"cron": "@daily", "start": "2026-02-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"},
        "an `end` before the `start`",
    ),
    "far": (ONCE, {"at": "10000-01-01T00:00:00Z"}, "a year 10000, a 30th of February"),
    "fast": (INTERVAL, {"interval": 99, "unit": "milliseconds"}, "interval 0, or below 0.1 seconds"),
    "slow": (INTERVAL, {"interval": 522, "unit": "weeks"}, "an interval above 3653 days"),
    "late": (INTERVAL, {"interval": 1, "jitter": 2}, "a jitter above the interval"),
}


async def test_timer_rules_that_cannot_be_used_are_not_accepted_and_say_why(operator: Operator, rules: Rules) -> None:
    root = Path(__file__).parents[3]
    manifest = yaml.safe_load((root / "packs" / "core" / "core.timer.yaml").read_text())
    rows = re.findall(r"^\| ([^|]+) \| `(parameters\..+)` \|$", (root / "docs" / "timers.md").read_text(), re.MULTILINE)
    said = dict(rows)
    assert set(said) == {row for _, _, row in WRONG.values()}, "each row of the table is tried"
    await rules.user.apply_sensor(triggerTypes=manifest["spec"]["triggerTypes"])
    for name, (kind, parameters, _) in WRONG.items():
        await rules.apply(name, kind, **parameters)
    for name, (_, _, row) in WRONG.items():
        condition = await rules.says(name, "Accepted", "False", "InvalidParameters")
        assert condition["message"] == said[row]
        assert (await rules.condition(name, "Active"))["reason"] == "NotAccepted"
