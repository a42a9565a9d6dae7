"""The Kubernetes sensor's parameters and expressions, and how a change becomes an event, of values alone."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from support.rule_stream import rule_state

from attune_api.events.ingest.reports import read_report
from attune_contract.events import EventReport
from attune_contract.resources import Sensor as SensorResource
from attune_contract.schemas.json_schema import JsonSchema
from attune_kit.cel.library import EvaluationError, Expression
from attune_kubernetes.changes import Change, Verdict, as_requested, event_of, found_late, values_of, verdict_of
from attune_kubernetes.objects import ObjectSnapshot, snapshot_of
from attune_kubernetes.parameters import ChangeKind, Selection, selection_of
from attune_sensor import InvalidRuleError, Rule

PACK = Path(__file__).parents[3] / "packs" / "kubernetes"
SENSOR = SensorResource.from_object(yaml.safe_load((PACK / "core.kubernetes.yaml").read_text()))
DECLARED = SENSOR.spec.canonical("core.kubernetes")
MAPS = {"apiVersion": "v1", "kind": "ConfigMap"}
SEEN_AT = datetime(2026, 11, 24, 12, 0, 0, 500_000, tzinfo=UTC)


def rule(**parameters: Any) -> Rule:
    return Rule(state=rule_state(parameters={**MAPS, **parameters}, trigger_type="core.kubernetes"), since_us=0)


def selection(**parameters: Any) -> Selection:
    return selection_of(rule(**parameters))


def accepted(parameters: dict[str, Any]) -> bool:
    """Whether the operator accepts them."""
    assert DECLARED is not None
    schema = JsonSchema(json.dumps(DECLARED.parameters_schema).encode())
    return schema.violations(json.dumps(parameters).encode(), limit=1) == []


def config_map(version: int = 7, **data: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "a",
            "namespace": "default",
            "uid": "u-1",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-11-24T11:00:00Z",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{…}", "team": "x"},
            "managedFields": [{"manager": "kubectl", "time": "2026-11-24T11:30:00Z"}],
        },
        "data": data,
    }


def made(version: int = 7, *, secret: bool = False, **data: Any) -> ObjectSnapshot:
    return snapshot_of(config_map(version, **data), secret=secret)


# -- parameters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"namespaces": ["a", "b"], "labelSelector": "app in (a, b)", "fieldSelector": "metadata.name=a"},
        {"apiVersion": "attune.dev/v1alpha1", "kind": "Rule", "namespaces": ["*"], "events": ["deleted"]},
        {"filter": "object.data.a == 'x' && oldObject != null", "payload": "metadata"},
        {"fields": {"a": "object.data.a", "n": "size(object.data)"}},
    ],
)
def test_what_the_operator_accepts_is_served(parameters: dict[str, Any]) -> None:
    assert accepted({**MAPS, **parameters})
    selection(**parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {"apiVersion": "V1"},
        {"apiVersion": "apps/"},
        {"apiVersion": "../v1"},
        {"kind": "configmaps"},
        {"kind": "Config/Map"},
        {"namespaces": []},
        {"namespaces": ["a/b"]},
        {"namespaces": "a"},
        {"labelSelector": 1},
        {"events": []},
        {"events": ["created"]},
        {"filter": 1},
        {"payload": "all"},
        {"fields": {"a-b": "1"}},
        {"fields": {"a": 1}},
        {"resource": "configmaps"},
    ],
)
def test_what_the_operator_refuses_is_not_served_either(parameters: dict[str, Any]) -> None:
    assert not accepted({**MAPS, **parameters})
    with pytest.raises(InvalidRuleError):
        selection(**parameters)


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"namespaces": ["*", "a"]}, r"parameters.namespaces"),
    ],
)
def test_what_only_the_sensor_can_judge_is_rejected_with_a_sentence(parameters: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidRuleError, match=complaint):
        selection(**parameters)


def test_defaults_in_the_schema_are_the_programs() -> None:
    assert DECLARED is not None
    assert DECLARED.parameters_schema is not None
    properties = DECLARED.parameters_schema["properties"]
    assert selection().changes == frozenset(properties["events"]["default"])
    assert selection().content == properties["payload"]["default"]
    assert selection().namespaces == ("default",), "the rule's own"
    assert selection(namespaces=["*"]).namespaces == ()


# -- objects -----------------------------------------------------------------------------------------------------------


def test_objects_are_kept_without_what_is_noise() -> None:
    found = made(a="1")
    assert (found.uid, found.version) == ("u-1", 7)
    assert datetime.fromtimestamp(found.changed_at, UTC) == datetime(2026, 11, 24, 11, 30, tzinfo=UTC)
    metadata = found.read()["metadata"]
    assert metadata["annotations"] == {"team": "x"}
    assert "managedFields" not in metadata


def test_of_a_secret_only_the_names_of_its_keys_are_kept() -> None:
    found = made(secret=True, password="aHVudGVyMg==")
    assert b"aHVudGVyMg" not in found.raw
    assert found.read()["data"] == {"password": None}


# -- change --------------------------------------------------------------------------------------------------------------


def judged(selected: Selection, change: Change) -> Verdict:
    """As the handler does it, but evaluated here."""
    program = selected.program
    values = {name: msgspec.json.decode(raw) for name, raw in values_of(selected, change).items()}
    results: list[Any] = []
    for text, condition in program.expressions:
        try:
            results.append(Expression(text, variables=program.variables, condition=condition).evaluate(values))
        except EvaluationError as error:
            results.append(error)
    return verdict_of(selected, change, results)


def heard(change: Change, **parameters: Any) -> bool:
    selected = selection(**parameters)
    return change.kind in selected.changes and judged(selected, change).wanted


def test_only_the_changes_that_a_rule_asks_for() -> None:
    added = Change(ChangeKind.ADDED, made())
    assert heard(added)
    assert heard(added, events=["added"])
    assert not heard(added, events=["modified", "deleted"])


def test_filter_on_old_and_new() -> None:
    grown = Change(ChangeKind.MODIFIED, made(8, n="2"), old=made(7, n="1"))
    same = Change(ChangeKind.MODIFIED, made(8, n="1"), old=made(7, n="1"))
    text = "oldObject != null && object.data.n != oldObject.data.n"
    assert heard(grown, filter=text)
    assert not heard(same, filter=text)
    assert not heard(Change(ChangeKind.ADDED, made(n="1")), filter=text)


def test_filters_of_policies_work_on_new_objects() -> None:
    """`oldObject` is null for what was added, and has() of null is false, as in Kubernetes."""
    added = Change(ChangeKind.ADDED, made(n="1"))
    assert heard(added, filter="!has(oldObject.data) || oldObject.data != object.data")
    assert heard(added, filter="oldObject.?data.?n.orValue('') != object.data.n")
    assert heard(added, filter="object.kind == 'ConfigMap' && object.apiVersion == 'v1'"), "lists leave them out"


def test_expressions_are_named_by_their_parameter() -> None:
    selected = selection(filter="true", fields={"a": "1", "b": "2"})
    assert [selected.where(number) for number in range(3)] == [
        "parameters.filter", "parameters.fields.a", "parameters.fields.b"
    ]  # fmt: skip
    assert selection(fields={"a": "1"}).where(0) == "parameters.fields.a"


def test_filter_that_fails_says_no_unless_what_was_is_not_known() -> None:
    text = "object.data.n != oldObject.data.n"
    certain = Change(ChangeKind.MODIFIED, made(8), old=made(7))
    verdict = judged(selection(filter=text), certain)
    assert not verdict.wanted
    assert verdict.failure == 'Key not found in map : "n"'
    assert not verdict_of(selection(filter="true"), certain, EvaluationError("it takes too long")).wanted
    unknown = Change(ChangeKind.MODIFIED, made(8, n="1"), certain=False)
    assert heard(unknown, filter=text)
    assert not heard(unknown, filter="object.data.missing == 'x'")


def event(change: Change, **parameters: Any) -> EventReport:
    """The event as the API reads it, having checked that it is as declared."""
    asked = rule(**parameters)
    selected = selection_of(asked)
    made = event_of(asked, selected, change, observed_at=SEEN_AT, fields=judged(selected, change).fields)
    stored = read_report(msgspec.json.encode(made))
    assert DECLARED is not None
    assert DECLARED.payload_schema is not None
    jsonschema.Draft202012Validator(DECLARED.payload_schema).validate(stored.payload)
    return stored


@pytest.mark.parametrize(
    ("created_at", "changed_at", "last_reported"),
    [
        (90, 98, None),  # the last event was at 100, and what is two seconds older may have come after it
        (90, 99, ChangeKind.MODIFIED),
        (90, 120, ChangeKind.MODIFIED),
        (99, 99, ChangeKind.ADDED),  # it is the same event again, if there was one
        (99, 120, ChangeKind.MODIFIED),
        (100, 120, ChangeKind.MODIFIED),
        (101, 101, ChangeKind.ADDED),
        (101, 120, ChangeKind.ADDED),
    ],
)
def test_what_changed_while_nobody_watched_by_the_times_in_it(
    created_at: int, changed_at: int, last_reported: ChangeKind | None
) -> None:
    object_ = ObjectSnapshot(uid="u", version=3, created_at=created_at, changed_at=changed_at, raw=b"{}")
    found = found_late(object_, after=98, last_reported=100)
    assert (found and found.kind) == last_reported


@pytest.mark.parametrize(
    ("wanted_changes", "created_at", "last_reported"),
    [
        (["added", "modified"], 99, ChangeKind.MODIFIED),
        (["added"], 99, ChangeKind.ADDED),  # it may never have been told of: rather twice than never
        (["added"], 90, None),
        (["modified"], 101, ChangeKind.MODIFIED),  # it was made, and then changed
        (["added", "modified"], 101, ChangeKind.ADDED),
        (["deleted"], 101, None),
    ],
)
def test_what_is_not_certain_is_told_by_the_name_that_the_rule_asks_for(
    wanted_changes: list[str], created_at: int, last_reported: ChangeKind | None
) -> None:
    object_ = ObjectSnapshot(uid="u", version=3, created_at=created_at, changed_at=120, raw=b"{}")
    found = found_late(object_, after=98, last_reported=100)
    assert found is not None
    heard = as_requested(selection(events=wanted_changes), found)
    assert (heard.kind if heard.kind in selection(events=wanted_changes).changes else None) == last_reported


def test_event_carries_the_object() -> None:
    found = event(Change(ChangeKind.MODIFIED, made(a="1"), old=made(6)))
    assert found.occurred_at == datetime(2026, 11, 24, 11, 30, tzinfo=UTC)
    assert found.payload["change"] == "modified"
    assert found.payload["observedAt"] == "2026-11-24T12:00:00.500000Z"
    assert found.payload["object"]["kind"] == "ConfigMap"
    assert found.payload["object"]["data"] == {"a": "1"}


def test_deletion_occurred_when_it_was_seen() -> None:
    assert event(Change(ChangeKind.DELETED, made())).occurred_at == SEEN_AT


def test_event_carries_metadata_or_fields_where_the_rule_says_so() -> None:
    found = event(Change(ChangeKind.ADDED, made(a="1")), payload="metadata")
    assert "object" not in found.payload
    assert found.payload["metadata"]["name"] == "a"
    found = event(Change(ChangeKind.ADDED, made(a="1")), fields={"a": "object.data.a", "b": "object.data.b"})
    assert found.payload["fields"] == {"a": "1", "b": None}


@pytest.mark.parametrize("value", ["x" * 300_000, "a\0b"])
def test_object_that_cannot_be_carried_is_carried_as_metadata(value: str) -> None:
    found = event(Change(ChangeKind.ADDED, made(a=value)))
    assert found.payload["truncated"] is True
    assert found.payload["metadata"]["uid"] == "u-1"


def test_field_that_is_too_large_is_null() -> None:
    change = Change(ChangeKind.ADDED, made(a="x" * 300_000, b="y"))
    assert event(change, fields={"a": "object.data.a", "b": "object.data.b"}).payload["fields"] == {"a": None, "b": "y"}


def test_object_that_is_nested_too_deep_is_carried_as_metadata() -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    assert event(Change(ChangeKind.ADDED, made(a=deep))).payload["truncated"] is True
    wide: Any = "x"
    for _ in range(27):
        wide = [wide]
    assert "object" in event(Change(ChangeKind.ADDED, made(a=wide))).payload


def test_ids_tell_changes_apart_and_repetitions_together() -> None:
    first = event(Change(ChangeKind.ADDED, made(7)))
    assert event(Change(ChangeKind.MODIFIED, made(7), certain=False)).id == first.id
    assert event(Change(ChangeKind.MODIFIED, made(8), old=made(7))).id != first.id
    assert event(Change(ChangeKind.DELETED, made(7), lost=True)).id != first.id
