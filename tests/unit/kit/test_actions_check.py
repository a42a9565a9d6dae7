"""What is wrong with a Rule's conditions and actions is said with field, line and column."""

from typing import Any

import pytest
import structlog

from attune_kit.actions.check import MOST_EXPRESSIONS, check, check_in
from attune_kit.cel.evaluator import Evaluator

HTTP = {"url": "https://a.example/${event.rule.name}"}


def spec(when: str | None = None, **action: Any) -> dict[str, Any]:
    return {"when": when, "actions": [{"name": "a", **action}]} if action else {"when": when}


def body(value: Any) -> dict[str, Any]:
    return spec(http={**HTTP, "body": value})


def make(manifest: Any, **more: Any) -> dict[str, Any]:
    return spec(object={"operation": "Create", "manifest": manifest}, **more)


RIGHT = [
    {},
    spec("event.payload.n > 2 && has(event.data.x)"),
    spec("event.rule.labels['a'] == 'b' && event.sensor == 'x' && event.occurredAt != ''"),
    spec("event.payload.list.all(event, event.any > 1)"),
    {**spec("true"), "order": "Strict"},
    spec("true", http=HTTP, success="response.status in [200, 409] && event.id != ''"),
    spec(job={"template": {"spec": {"a": ["${event.id}"]}}}, **{"await": "Completed"}),
    make({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "here"}}, **{"await": "object.data.a == 'b'"}),
    body({"text": "$${event.nope} ${'}'}", "${nope}": 1}),
]  # fmt: skip

WRONG = [
    (spec(emit={"name": "no name"}), "spec.actions[0].emit.name: is no name of an event"),
    (spec(emit={"name": "x", "payload": [1]}), "spec.actions[0].emit.payload: must be an object"),
    (spec(emit={"name": "x", "payload": "text"}), "spec.actions[0].emit.payload: must be an object"),
    (spec("event.payload.n >"), "spec.when: column 18: Syntax error"),
    (spec("evnt.payload"), "spec.when: column 1: unknown variable evnt; expected one of: event"),
    (spec("event.payload.n + 1"), "spec.when: column 1: it gives int; expected true or false"),
    (spec("event.paylod.n > 1"), "spec.when: column 7: event has no field paylod; expected one of: id, type, occurredAt"),
    (spec("event.rule.label.x == ''"), "spec.when: column 12: event.rule has no field label; expected one of: namespace"),
    (spec("event.id.matches('[')"), "spec.when: column 18: '[' is not a valid regular expression"),
    ({"actions": [{"when": "response.a == 1"}]}, "spec.actions[0].when: column 1: unknown variable response"),
    (spec(http=HTTP, success="response.code == 1"), "spec.actions[0].success: column 10: response has no field code"),
    (spec(http=HTTP, success="object.a == 1"), "spec.actions[0].success: column 1: unknown variable object"),
    (make({"apiVersion": "v1", "kind": "Pod"}, **{"await": "object"}), None),
    (make({"apiVersion": "v1", "kind": "Pod"}, **{"await": "1"}), "spec.actions[0].await: column 1: it gives int"),
    (body({"a": ["x", "see ${nope.x}"]}), "spec.actions[0].http.body.a[1]: column 7: unknown variable nope"),
    (body("one\ntwo ${event.nope}"), "spec.actions[0].http.body: line 2, column 13: event has no field nope"),
    (body("${event.id"), "spec.actions[0].http.body: column 1: the expression that begins here has no closing }"),
    (body("a ${}"), "spec.actions[0].http.body: column 3: there is no expression between"),
    (body(["${event.id}"] * (MOST_EXPRESSIONS + 1)), "spec.actions: the Rule has 502 expressions; at most 500"),
    (make({"kind": "Pod"}), "spec.actions[0].object.manifest.apiVersion: is required"),
    (make({"apiVersion": "v1"}), "spec.actions[0].object.manifest.kind: is required"),
    (
        make({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "kube-system"}}),
        "spec.actions[0].object.manifest.metadata.namespace: an action acts in its Rule's namespace, here",
    ),
    (
        make({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "${event.payload.ns}"}}),
        "spec.actions[0].object.manifest.metadata.namespace: an action acts in its Rule's namespace, here",
    ),
]  # fmt: skip


@pytest.mark.parametrize("rule", RIGHT)
def test_what_is_right(rule: dict[str, Any]) -> None:
    assert check(rule, namespace="here") == []


@pytest.mark.parametrize(("rule", "words"), WRONG)
def test_what_is_wrong_is_said_with_its_place(rule: dict[str, Any], words: str | None) -> None:
    found = [str(problem) for problem in check(rule, namespace="here")]
    assert [text for text in found if words and text.startswith(words)] or (found == [] and words is None), found


def test_everything_that_is_wrong_is_said_in_order() -> None:
    actions = [{"name": "a", "http": {**HTTP, "text": "${b} ${c}"}}, {"name": "b", "when": "d"}]
    places = [(".".join(map(str, each.path)), each.column) for each in check({"when": "nope", "actions": actions})]
    text = "spec.actions.0.http.text"
    assert places == [(text, 3), (text, 8), ("spec.actions.1.when", 1), ("spec.when", 1)]


async def test_processes_say_the_same() -> None:
    evaluator = Evaluator(log=structlog.get_logger())
    try:
        for rule in [*RIGHT, *(each for each, _ in WRONG)]:
            assert await check_in(evaluator, rule, namespace="here") == check(rule, namespace="here")
    finally:
        await evaluator.close()
