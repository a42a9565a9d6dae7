"""From a trigger type's schema to a form, and from the form to a Rule."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from attune_api.console.answers import environment
from attune_api.console.views.as_yaml import as_yaml
from attune_api.console.views.new_rule import manifest, naming_problems, refusal
from attune_api.console.views.parameters import OTHERS, entered, given
from attune_api.console.views.schema_fields import Field, fields_of
from attune_api.console.views.sensor import type_named, type_rows, usual_namespace

PACK = Path(__file__).parents[4] / "packs" / "core"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["interval", "mode"],
    "additionalProperties": False,
    "properties": {
        "note": {"type": "string", "description": "What for.", "maxLength": 5},
        "interval": {"type": "number", "exclusiveMinimum": 0},
        "unit": {"type": "string", "enum": ["seconds", "hours"], "default": "seconds"},
        "count": {"type": ["integer", "null"]},
        "loud": {"type": "boolean", "default": True},
        "maybe": {"type": "boolean"},
        "mode": {"enum": [1, "1", None]},
        "deep": {"type": "object", "properties": {"at": {"type": "integer"}}, "additionalProperties": False},
        "never": False,
    },
}


def by_name(schema: Any) -> dict[str, Field]:
    return {field.name: field for field in fields_of(schema).fields}


def form(**values: str) -> dict[str, str]:
    return {"p.loud": "on", **{f"p.{name}": value for name, value in values.items()}}


def test_each_parameter_gets_the_field_that_fits_it() -> None:
    fields = by_name(SCHEMA)
    assert {name: field.kind for name, field in fields.items()} == {
        "interval": "number",
        "mode": "select",
        "note": "text",
        "unit": "select",
        "count": "integer",
        "loud": "checkbox",
        "maybe": "select",  # left out, true and false are three things
        "deep": "json",
    }
    assert list(fields)[:2] == ["interval", "mode"]
    assert [option.text for option in fields["unit"].options] == ["seconds", "hours"]
    assert [option.value for option in fields["mode"].options] == ["1", '"1"', "null"]
    assert (fields["unit"].default, fields["note"].description) == ("seconds", "What for.")
    assert not fields_of(SCHEMA).others
    assert given(fields_of(SCHEMA)) == {"p.loud": "on"}


def test_what_is_entered_becomes_parameters_of_their_types() -> None:
    filled = form(interval="1.5", mode='"1"', unit='"hours"', count=" 7 ", maybe="false", deep='{"at": 3}', note="a b")
    found = entered(filled, fields_of(SCHEMA), schema=SCHEMA)
    assert found.right
    assert found.parameters == {
        "interval": 1.5,
        "mode": "1",
        "note": "a b",
        "unit": "hours",
        "count": 7,
        "maybe": False,
        "deep": {"at": 3},
    }
    # A checkbox that is on by default says something when it is off.
    off = {key: value for key, value in filled.items() if key != "p.loud"}
    assert entered(off, fields_of(SCHEMA), schema=SCHEMA).parameters["loud"] is False
    # null is a value that can be chosen, and nothing else leaves a required field out.
    assert entered(form(interval="1", mode="null"), fields_of(SCHEMA), schema=SCHEMA).parameters["mode"] is None


@pytest.mark.parametrize(
    ("values", "key", "said"),
    [
        ({"mode": "1"}, "p.interval", "'interval' is a required property"),
        ({"mode": "1", "interval": "0"}, "p.interval", "less than or equal to the minimum"),
        ({"mode": "1", "interval": "soon"}, "p.interval", "'soon' is not of type 'number'"),
        ({"mode": "1", "interval": "9" * 5000}, "p.interval", "is not of type 'number'"),
        ({"mode": "1", "interval": "1e999"}, "p.interval", "is not of type 'number'"),
        ({"mode": "7", "interval": "1"}, "p.mode", "is not one of"),
        ({"mode": "1", "interval": "1", "count": "1.5"}, "p.count", "is not of type"),
        ({"mode": "1", "interval": "1", "note": "too long"}, "p.note", "more than 5 characters"),
        ({"mode": "1", "interval": "1", "deep": "{"}, "p.deep", "This is no JSON"),
        ({"mode": "1", "interval": "1", "deep": "[" * 5000}, "p.deep", "This is no JSON"),
        ({"mode": "1", "interval": "1", "deep": "[" * 70 + "]" * 70}, "p.deep", "more than 64 levels"),
        ({"mode": "1", "interval": "1", "deep": '{"at": "x"}'}, "p.deep", "deep.at: 'x' is not of type 'integer'"),
    ],
)
def test_a_mistake_is_told_beside_its_field(values: dict[str, str], key: str, said: str) -> None:
    found = entered(form(**values), fields_of(SCHEMA), schema=SCHEMA)
    assert list(found.problems) == [key]
    assert said in found.problems[key]
    assert not found.right


def test_a_mistake_of_no_field_is_told_as_well() -> None:
    schema = {"properties": {"a": {"type": "string"}}, "minProperties": 1, "additionalProperties": False}
    found = entered({}, fields_of(schema), schema=schema)
    assert (found.problems, len(found.general)) == ({}, 1)
    assert not found.right
    unusable = {"properties": {"a": {"type": "string"}}, "type": "nonsense"}
    assert "cannot be used" in entered({"p.a": "x"}, fields_of(unusable), schema=unusable).general[0]


def test_parameters_without_a_field_are_json() -> None:
    for schema in (None, True, {}, {"type": "object"}, {"properties": {"a": {"type": "string"}}}):
        fields = fields_of(schema)
        assert fields.others
        assert entered({OTHERS: '{"b": [1]}'}, fields, schema=schema).parameters == {"b": [1]}
        assert entered({}, fields, schema=schema).right
        assert "object" in entered({OTHERS: "[1]"}, fields, schema=schema).problems[OTHERS]
    twice = entered({OTHERS: '{"a": "y"}', "p.a": "x"}, fields_of(schema), schema=schema)
    assert twice.problems == {OTHERS: "a has a field of its own above."}
    # Without fields of its own, "p.a" is nobody's.
    assert entered({"p.a": "x"}, fields_of(None), schema=None).parameters == {}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": ["a"]},
        {"properties": {"a": 1, "b": None, "c": True}},
        {"properties": {"a": {"type": 7, "enum": {}, "default": {"x": []}, "description": [], "format": 3}}},
        {"properties": {"a": {"type": ["string", "number"]}, "b": {"$ref": "#/x"}, "c": {"anyOf": [{}]}}},
        {"required": "a", "examples": {"a": 1}, "properties": {"a": {"enum": []}}},
        {"required": [[], {}], "examples": [1], "properties": {"": {"type": "string"}, "a b\n": {"const": {"x": 1}}}},
        {"properties": {"e": {"enum": list(range(1000))}}},
        [],
        "x",
        False,
    ],
)
def test_an_odd_schema_is_shown_as_far_as_it_goes(schema: Any) -> None:
    fields = fields_of(schema)
    assert all(field.kind in ("json", "text", "select") for field in fields.fields)
    entered({field.key: "1" for field in fields.fields}, fields, schema=schema)
    html(schema)


def test_of_very_many_parameters_the_rest_is_json() -> None:
    schema = {
        "properties": {f"p{place}": {"type": "string"} for place in range(90)},
        "required": ["p89"],
        "additionalProperties": False,
    }
    fields = fields_of(schema)
    assert (len(fields.fields), fields.fields[0].name, fields.others) == (40, "p89", True)
    found = entered({"p.p89": "x", OTHERS: '{"p88": "y"}'}, fields, schema=schema)
    assert (found.parameters, found.right) == ({"p89": "x", "p88": "y"}, True)


def test_the_manifest_is_yaml_that_says_the_same_again() -> None:
    deep = entered({OTHERS: '{"a":' * 64 + "1" + "}" * 64}, fields_of(None), schema=None).parameters
    assert deep
    named = {"namespace": "team-a", "name": "on", "description": "Tell: all\n- x"}
    odd = {
        "deep": deep,
        "a: b": "yes",
        "t": "2026-11-28T00:00:00Z",
        "n": "1.0",
        "multi": "a\nb: &c",
        "ü": "…",
        "z": None,
    }
    made = manifest(named, kind="core.x", parameters=odd)
    text = as_yaml(made)
    assert yaml.safe_load(text) == made
    assert "!!python" not in text
    assert made["spec"] == {"description": "Tell: all\n- x", "trigger": {"type": "core.x", "parameters": odd}}
    assert manifest({"namespace": "a", "name": "b"}, kind="c", parameters={})["spec"] == {"trigger": {"type": "c"}}


@pytest.mark.parametrize("name", ["", "A", "a/b", "../x", "a b", "-a", "a.", "a\n", "a" * 254])
def test_a_name_that_kubernetes_does_not_take_is_told(name: str) -> None:
    assert list(naming_problems({"namespace": "team-a", "name": name})) == ["name"]
    assert "namespace" in naming_problems({"namespace": name, "name": "a"})
    assert naming_problems({"namespace": "team-a", "name": "a.b-c"}) == {}


def html(schema: Any, *, kind: str = "core.x", **shown: Any) -> str:
    """The editor's page."""

    class Caller:
        login = "ann"

    class Visitor:
        caller = Caller
        csrf = "s"

    values = {
        "base": "/console", "place": "/console/x", "visitor": Visitor, "namespace": "team-a", "name": "s", "kind": kind,
        "fields": fields_of(schema), "form": {}, "others": OTHERS, "problems": {}, "general": (), "text": "", **shown,
    }  # fmt: skip
    return environment().get_template("new_rule.html").render(**values)


HOSTILE = "\"'><script>alert(1)</script></textarea>`x` {{ 7*7 }}"


def test_what_a_stranger_wrote_into_a_schema_is_text_on_the_page() -> None:
    schema = {
        "description": HOSTILE,
        "examples": [{HOSTILE: HOSTILE}],
        "properties": {
            HOSTILE: {"type": "string", "description": HOSTILE, "default": HOSTILE, "format": HOSTILE},
            "chosen": {"enum": [HOSTILE], "description": HOSTILE},
            "deep": {"type": HOSTILE, "examples": [HOSTILE]},
        },
    }
    fields = fields_of(schema)
    typed = {field.key: HOSTILE for field in fields.fields} | {"name": HOSTILE, OTHERS: HOSTILE}
    page = html(
        schema,
        kind=HOSTILE,
        form=typed,
        problems=dict.fromkeys(typed, HOSTILE),
        general=(HOSTILE,),
        text=as_yaml(manifest(typed, kind=HOSTILE, parameters={HOSTILE: HOSTILE})),
    )
    assert page.count("<script") == 2  # those of the layout
    assert "alert(1)" in page
    assert "7*7" in page
    assert page.count("</textarea>") == page.count("<textarea")
    assert " style=" not in page
    assert " onclick=" not in page


def test_every_field_has_a_label_and_its_mistake_is_tied_to_it() -> None:
    page = html(SCHEMA, problems={"p.interval": "Too short.", "name": "Give it one."}, form={"p.maybe": "false"})
    for place in range(1, 9):
        assert page.count(f'<label for="p-{place}">') == page.count(f' id="p-{place}"') == 1
    assert 'aria-invalid="true" aria-describedby="p-1-wrong' in page
    assert '<span class="wrong" id="p-1-wrong">Too short.</span>' in page
    assert 'id="f-name-wrong"' in page
    assert '<option value="false" selected>' in page


@pytest.mark.parametrize("file", ["core.timer.yaml", "core.webhook.yaml"])
def test_the_core_pack_has_a_form_for_each_type(file: str) -> None:
    sensor = yaml.safe_load((PACK / file).read_text())
    for row in type_rows(sensor):
        declared = type_named(sensor, row.name)
        assert declared is not None
        fields = fields_of(declared["parametersSchema"])
        assert fields.fields
        assert not fields.others
        assert row.name in html(declared["parametersSchema"], kind=row.name)
    assert type_named(sensor, "core.nothing") is None


def test_comparisons_between_parameters_are_told_beside_a_field() -> None:
    sensor = yaml.safe_load((PACK / "core.timer.yaml").read_text())
    declared = type_named(sensor, "core.timer")
    assert declared is not None
    assert declared["name"] == "core.intervaltimer"
    schema = declared["parametersSchema"]
    found = entered({"p.interval": "1", "p.unit": '"milliseconds"'}, fields_of(schema), schema=schema)
    assert "shorter than 0.1 seconds" in "".join([*found.problems.values(), *found.general])
    assert not found.right
    right = entered({"p.interval": "1", "p.unit": '"hours"'}, fields_of(schema), schema=schema)
    assert (right.right, right.parameters) == (True, {"interval": 1, "unit": "hours"})


def test_a_new_rule_is_where_the_sensor_admits_it() -> None:
    sensor: dict[str, Any] = {"metadata": {"namespace": "home", "name": "s"}, "spec": {}}
    assert usual_namespace(sensor, "team-a") == "home"
    sensor["spec"] = {"rules": {"namespaces": {"from": "All"}}}
    assert (usual_namespace(sensor, "team-a"), usual_namespace(sensor, "")) == ("team-a", "default")


def test_a_refusal_says_what_is_missing() -> None:
    form = {"namespace": "team-a", "name": "on"}
    assert "the right to create rules.attune.dev in namespace team-a" in refusal(403, "no", form)
    assert "a Rule team-a/on already" in refusal(409, "exists", form)
    assert "is there a namespace team-a?" in refusal(404, "not found", form)
    assert refusal(422, "Bad spec.", form).endswith("It says: Bad spec.")
