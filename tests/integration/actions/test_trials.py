"""What ``POST …/test`` and ``attune rules test`` say of a rule is what the runner then does, for random rules and payloads."""

import json
import random
from typing import Any

import pytest
from support.actions_stage import Stage, Target, event, http, rule_actions

from attune_api.runs.trials import Trials
from attune_contract.actions import RuleActions, RunState, run_id
from attune_kit.actions.plan import Plan

pytestmark = pytest.mark.nats

RULES = 30
EVENTS = 4
#: Conditions in the shapes of other systems' criteria: equals, regex, exists, contains, greater, not, and wrong ones.
CONDITIONS = (
    None,
    'event.payload.name == "ann"',
    'event.payload.name.matches("^a")',
    "has(event.payload.size)",
    '"red" in event.payload.tags',
    "event.payload.size > 5",
    '!(event.payload.name == "bob")',
    "event.payload.size / 0 > 1",
    'event.data.limit > event.payload.size && event.rule.labels.team == "x"',
)
TEXTS = (
    "plain",
    "${event.payload.name}",
    "${event.payload.size}",
    "${event.payload}",
    "size ${event.payload.size} of ${event.rule.name}",
    "$${event.payload.name}",
    "${event.payload.tags[0]}",
    "${event.data.limit}",
    "${event.payload.size / 0}",
    "${event.sensor}/${event.type}",
)


def _rule(number: int, chance: random.Random, url: str) -> RuleActions:
    def body(depth: int) -> Any:
        if depth == 0 or chance.random() < 0.5:
            return chance.choice([*TEXTS, 7, True, None])
        if chance.random() < 0.5:
            return [body(depth - 1) for _ in range(chance.randrange(3))]
        return {f"k{key}": body(depth - 1) for key in range(chance.randrange(3))}

    actions = []
    for index in range(chance.randrange(1, 4)):
        when = chance.choice(CONDITIONS)
        more = {} if when is None else {"when": when}
        path = chance.choice(["", "/${event.payload.name}", "/fixed"])
        actions.append(http(url + path, name=f"a{index}", body={"inside": body(2)}, **more))
    return rule_actions(
        f"r{number}", *actions, when=chance.choice(CONDITIONS), data={"limit": 6}, labels={"team": chance.choice("xy")}
    )


def _payload(chance: random.Random) -> dict[str, Any]:
    whole = {"name": chance.choice(["ann", "bob", "a b/c"]), "size": chance.randrange(10), "tags": ["red", "blue"]}
    return {key: value for key, value in whole.items() if chance.random() < 0.8}


async def test_what_is_foretold_is_what_is_done(stage: Stage, target: Target) -> None:
    chance = random.Random(20)
    rules = {f"r{number}": _rule(number, chance, target.url) for number in range(RULES)}
    events = [
        event(k, rule=name, payload=_payload(chance))
        for k, name in enumerate(name for name in rules for _ in range(EVENTS))
    ]
    trials = Trials()
    foretold: dict[Any, Any] = {}
    try:
        for each in events:
            rule = rules[each.rule_name]
            for step in await trials.steps(Plan(rule), each):
                foretold[run_id(rule.uid, each.id, step.action)] = step
    finally:
        await trials.close()
    assert {step.fate for step in foretold.values()} == {"run", "skip", "fail"}
    for rule in rules.values():
        await stage.tell(rule)
    stage.start()
    await stage.store(*events)
    runs = {run.id: run for run in await stage.ended(len(foretold))}
    assert runs.keys() == foretold.keys()
    requests = {request.headers["Idempotency-Key"]: (request, body) for request, body in target.requests}
    for key, step in foretold.items():
        run = runs[key]
        if step.fate == "run":
            assert run.state is RunState.SUCCEEDED, (step, run)
            request, body = requests.pop(str(key))
            assert f"http://127.0.0.1:{target.port}{request.rel_url.raw_path}" == step.request["url"]
            assert json.loads(body) == step.request["body"]
        else:
            assert run.state is (RunState.SKIPPED if step.fate == "skip" else RunState.FAILED), (step, run)
            assert (run.reason, run.message) == (step.reason, step.message)
    assert requests == {}
