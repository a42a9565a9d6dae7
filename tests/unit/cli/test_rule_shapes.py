"""Rules in the shapes of other systems': StackStorm's criteria and Knative's PingSources. Each is a whole Rule, which lint and
operator accept, tried by the code that the runner uses, at times that the timer's own code gives.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import yaml

from attune_cli.lint import check_rule
from attune_cli.next_times import next_times
from attune_cli.trying import actions_of
from attune_contract.events import Event, event_id, scheduled
from attune_kit.actions.plan import Plan, Step
from attune_kit.cel.evaluator import Evaluator

_SHAPES = Path(__file__).with_name("shapes")
NOW = datetime(2027, 3, 26, 12, tzinfo=UTC)


def _read(name: str) -> list[dict[str, Any]]:
    """The shapes in a file. Times stay texts."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return [each for each in yaml.load_all((_SHAPES / name).read_text(), Loader=Loader) if each]


CRITERIA, PINGS = _read("stackstorm.yaml"), _read("ping.yaml")


def _name(shape: Mapping[str, Any]) -> str:
    return str(shape["rule"]["metadata"]["name"])


def _event(rule: Mapping[str, Any], payload: Mapping[str, Any], at: datetime) -> Event:
    return Event(
        id=event_id("uid", str(payload)),
        seq=1,
        trigger_type=rule["spec"]["trigger"]["type"],
        rule_uid="uid",
        rule_namespace=rule["metadata"]["namespace"],
        rule_name=rule["metadata"]["name"],
        sensor_ref="attune-system/core.test",
        occurred_at=scheduled(at),
        received_at=scheduled(at),
        payload=msgspec.Raw(msgspec.json.encode(payload)),
    )


Case = tuple[Mapping[str, Any], Mapping[str, Any], datetime]


def _payload_of_ping(shape: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"scheduled_at": shape["next"][0], "fired_at": shape["next"][0], "k": 1, "rule": f"ops/{_name(shape)}"}


async def _tried(cases: list[Case]) -> list[list[Step]]:
    """What becomes of the actions of each Rule for a payload, by the evaluator that the runner has."""
    evaluator = Evaluator(log=structlog.get_logger(__name__))
    try:
        found = []
        for rule, payload, at in cases:
            plan, event = Plan(actions_of(rule)), _event(rule, payload, at)
            program = plan.program
            results = (
                await evaluator.evaluate(rule["metadata"]["name"], program, plan.variables(event)) if program else []
            )
            found.append(plan.steps(results, event))
        return found
    finally:
        await evaluator.close()


@pytest.fixture(scope="module")
def steps() -> dict[tuple[str, str], list[Step]]:
    """What becomes of each Rule's actions, by its name and the payload as JSON; tried once for all tests."""
    cases: list[Case] = [
        (shape["rule"], payload, NOW) for shape in CRITERIA for payload in (*shape["runs"], *shape["skips"])
    ]
    cases += [(shape["rule"], _payload_of_ping(shape), datetime.fromisoformat(shape["next"][0])) for shape in PINGS]
    found = asyncio.run(_tried(cases))
    return {
        (rule["metadata"]["name"], repr(payload)): each for (rule, payload, _), each in zip(cases, found, strict=True)
    }


def test_there_are_as_many_shapes_as_were_found() -> None:
    assert (len(CRITERIA), len({_name(each) for each in CRITERIA})) == (41, 41)
    assert (len(PINGS), len({_name(each) for each in PINGS})) == (10, 10)
    with_criteria = [each for each in CRITERIA if "when" in each["rule"]["spec"]]
    assert all(each["runs"] and each["skips"] for each in with_criteria)
    assert len(with_criteria) == 40


@pytest.mark.parametrize("shape", [*CRITERIA, *PINGS], ids=_name)
def test_lint_and_operator_accept_them(shape: dict[str, Any]) -> None:
    assert check_rule(shape["rule"]) == []


@pytest.mark.parametrize("shape", CRITERIA, ids=_name)
def test_criteria_hold_for_some_payloads_and_not_for_others(
    shape: dict[str, Any], steps: dict[tuple[str, str], list[Step]]
) -> None:
    for fate in ("run", "skip"):
        for payload in shape[f"{fate}s"]:
            (step,) = steps[_name(shape), repr(payload)]
            assert (step.fate, step.reason.value) == (fate, "" if fate == "run" else "ConditionFalse"), (payload, step)
            assert fate == "skip" or "${" not in repr(step.request)


@pytest.mark.parametrize("shape", PINGS, ids=_name)
def test_pings_come_at_their_times_and_send_their_data(
    shape: dict[str, Any], steps: dict[tuple[str, str], list[Step]]
) -> None:
    rule = shape["rule"]
    trigger = rule["spec"]["trigger"]
    found = next_times(rule, trigger_type=trigger["type"], file="ping.yaml", line=1, number=3, now=NOW)
    assert [each.plain()["utc"] for each in found.times] == shape["next"]
    assert found.zone == trigger["parameters"].get("timezone", "UTC")
    sent = {
        step.name: step.request for step in steps[_name(shape), repr(_payload_of_ping(shape))] if step.fate == "run"
    }
    assert sent.keys() == shape["sends"].keys()
    for name, expected in shape["sends"].items():
        assert {field: sent[name][field] for field in expected} == expected
