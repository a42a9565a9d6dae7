"""What a Rule's author is told about wrong parameters, and that no schema or document can stall the operator."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from attune_contract.identity import SensorRef
from attune_contract.schemas.json_schema import JsonSchema
from attune_operator.resources.canonical import canonical_json
from attune_operator.resources.limits import MAX_STATE_BYTES
from attune_operator.rules.records import TriggerDeclaration
from attune_operator.rules.validation import check_parameters, too_large

TIMER = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["interval"],
    "properties": {
        "interval": {"type": "number", "exclusiveMinimum": 0},
        "unit": {"enum": ["milliseconds", "seconds", "minutes", "hours"]},
        "window": {"type": "object", "properties": {"days": {"type": "array", "items": {"type": "integer"}}}},
    },
    "additionalProperties": False,
}


def problem(parameters: Any, schema: Any = TIMER) -> str | None:
    trigger = TriggerDeclaration(
        name="core.intervaltimer", aliases=(), schema=b"" if schema is None else canonical_json(schema)
    )
    return check_parameters(
        parameters=canonical_json(parameters),
        value=parameters,
        trigger=trigger,
        sensor=SensorRef("attune-system", "core.timer"),
    )


def test_good_parameters_are_accepted() -> None:
    assert problem({"interval": 1.5, "unit": "seconds"}) is None


def test_without_a_schema_anything_is_accepted() -> None:
    assert problem({"x": [1, {"y": None}]}, schema=None) is None


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"interval": -1}, "parameters.interval: -1 is less than or equal to the minimum of 0"),
        (
            {"interval": 1, "unit": "fortnights"},
            "parameters.unit: 'fortnights' is not one of ['milliseconds', 'seconds', 'minutes', 'hours']",
        ),
        ({}, "parameters: 'interval' is a required property"),
        ({"interval": 1, "unti": "s"}, "parameters: unknown property 'unti'; expected one of: interval, unit, window"),
        ({"interval": 1, "window": {"days": [1, "x"]}}, "parameters.window.days[1]: 'x' is not of type 'integer'"),
        ({"interval": "5"}, "parameters.interval: '5' is not of type 'number'"),
        ({"interval": True}, "parameters.interval: true is not of type 'number'"),
        (
            {"interval": None},
            "parameters.interval: null is not of type 'number'; give it a value, or leave the field out",
        ),
    ],
)
def test_an_error_says_where_what_and_what_is_allowed(parameters: Any, expected: str) -> None:
    assert problem(parameters) == expected


def test_several_errors_are_told_and_cut_after_three() -> None:
    schema = {"additionalProperties": {"type": "integer"}}
    text = problem(dict.fromkeys("abcdef", "x"), schema)
    assert text is not None
    assert text.count("is not of type") == 3
    assert text.endswith("and more")


def test_an_alternative_that_comes_closest_is_named() -> None:
    schema = {
        "anyOf": [{"required": ["cron"]}, {"required": ["interval"], "properties": {"interval": {"type": "integer"}}}]
    }
    assert problem({"interval": "x"}, schema) == "parameters.interval: 'x' is not of type 'integer'"


def test_an_error_about_a_huge_value_is_short() -> None:
    text = problem({"interval": "x" * 400_000})
    assert text is not None
    assert len(text) < 400


@pytest.mark.parametrize(
    ("value", "accepted"), [(1, True), (1.0, True), (2, True), (3, False), ("1", False), (True, False), (None, False)]
)
def test_enum_compares_as_json_does(value: Any, accepted: bool) -> None:
    assert (problem({"x": value}, {"properties": {"x": {"enum": [1, 2]}}}) is None) is accepted


@pytest.mark.parametrize(
    ("schema", "parameters", "accepted"),
    [
        ({"properties": {"x": {"pattern": "^a+$"}}}, {"x": "aaa"}, True),
        ({"properties": {"x": {"pattern": "^a+$"}}}, {"x": "aab"}, False),
        ({"properties": {"x": {"uniqueItems": True}}}, {"x": [1, {"a": 2}, [1]]}, True),
        ({"properties": {"x": {"uniqueItems": True}}}, {"x": [{"a": 1, "b": 2}, {"b": 2, "a": 1}]}, False),
        ({"patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False}, {"x-a": 1}, True),
        ({"patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False}, {"x-a": "1"}, False),
        ({"patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False}, {"y": 1}, False),
        ({"$defs": {"n": {"type": "integer"}}, "properties": {"x": {"$ref": "#/$defs/n"}}}, {"x": 1}, True),
        ({"$defs": {"n": {"type": "integer"}}, "properties": {"x": {"$ref": "#/$defs/n"}}}, {"x": "1"}, False),
        ({"properties": {"a": {}}, "unevaluatedProperties": False}, {"b": 1}, False),
        (True, {"x": 1}, True),
        (False, {"x": 1}, False),
    ],
)
def test_json_schema_as_specified(schema: Any, parameters: Any, accepted: bool) -> None:
    assert (problem(parameters, schema) is None) is accepted


def _fan_out() -> dict[str, Any]:
    definitions: dict[str, Any] = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i - 1}"}] * 2} for i in range(1, 40)}
    return {"$defs": definitions | {"a0": {"type": "object"}}, "$ref": "#/$defs/a39"}


@pytest.mark.parametrize(
    ("schema", "parameters"),
    [
        pytest.param(
            {"properties": {"x": {"pattern": "(a+)+$"}}}, {"x": "a" * 100_000 + "b"}, id="backtracking pattern"
        ),
        pytest.param(
            {"properties": {"x": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "(a+)+$"}}},
            {"x": "a" * 40 + "b"},
            id="backtracking pattern behind another dialect",
        ),
        pytest.param(
            {"patternProperties": {"(a+)+$": {}}, "additionalProperties": False},
            {"a" * 40 + "b": 1},
            id="backtracking pattern of names",
        ),
        pytest.param(_fan_out(), {"x": 1}, id="references that fan out"),
        pytest.param({"$ref": "#"}, {"x": 1}, id="endless reference"),
        pytest.param(
            {"properties": {"x": {"items": {"type": "string"}}}}, {"x": list(range(200_000))}, id="many items"
        ),
        pytest.param(
            {"properties": {"x": {"uniqueItems": True}}}, {"x": [{"a": i % 50_000} for i in range(60_000)]}, id="unique"
        ),
        pytest.param(
            {"properties": {"x": {"anyOf": [{"minLength": 10**7}] * 900}}}, {"x": "a" * 400_000}, id="long texts"
        ),
    ],
)
def test_hostile_schemas_and_documents_end_soon_and_are_refused(schema: Any, parameters: Any) -> None:
    began = time.process_time()
    text = problem(parameters, schema)
    assert text is not None
    assert len(text) < 1000
    assert time.process_time() - began < 10  # without the bounds: for ever, minutes, or gigabytes


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "https://example.com/schema.json"}, "only references within a schema are followed"),
        ({"properties": {"x": {"pattern": "(?=a)b"}}}, "the pattern '(?=a)b' cannot be used (at properties.x.pattern)"),
        (
            {"type": "nonsense"},
            "'nonsense' fits none of the alternatives: 'nonsense' is not one of ['array', 'boolean'",
        ),
        ({"properties": {"x": {"minLength": -1}}}, "-1 is less than the minimum of 0 (at properties.x.minLength)"),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#"},
            "2020-12/schema is supported",
        ),
        ({"enum": ["x" * 300_000]}, "bytes, and 262144 are allowed"),
        ({"anyOf": [{"minLength": 10**7}] * 5000}, "5001 objects, and 1000 are allowed"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"properties": {"x": {"$dynamicRef": "#x"}}}, "$dynamicRef is not supported"),
        ({"$defs": {"a": {"$id": "a"}}, "$ref": "#/$defs/a"}, "$id is supported at the root only"),
        ({"$ref": "#/$defs/a"}, "'#/$defs/a', which is not in it"),
        ({"properties": {"x": {"pattern": "a{5000}"}}}, "its patterns are too large"),
    ],
)
def test_a_schema_that_cannot_be_used_is_blamed_on_the_sensor(schema: Any, said: str) -> None:
    text = problem({"x": "b"}, schema)
    assert text is not None
    assert said in text
    assert "attune-system/core.timer" in text
    assert "Its author must fix it" in text


def test_a_remote_reference_is_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    assert "https://never.example" in (problem({"y": 1}, {"$ref": "https://never.example/x"}) or "")


def test_a_rule_that_no_message_can_carry_is_refused() -> None:
    assert too_large(MAX_STATE_BYTES) is None
    assert str(MAX_STATE_BYTES) in (too_large(MAX_STATE_BYTES + 1) or "")


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 1.5, -2.5]),
    st.sampled_from(["", "a", "ab", "b1"]),
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abx"), inner, max_size=3),
    max_leaves=6,
)


def _schemas() -> st.SearchStrategy[Any]:
    leaf = st.booleans() | st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["null", "boolean", "string", "number", "integer", "array", "object"])
            | st.lists(st.sampled_from(["string", "integer", "null"]), min_size=1, max_size=2, unique=True),
            "enum": st.lists(SCALARS, min_size=1, max_size=3),
            "const": SCALARS,
            "minimum": st.integers(-2, 2),
            "maximum": st.integers(-2, 2),
            "exclusiveMinimum": st.integers(-2, 2),
            "exclusiveMaximum": st.integers(-2, 2),
            "minLength": st.integers(0, 2),
            "maxLength": st.integers(0, 2),
            "pattern": st.sampled_from(["^a", "b$", "[0-9]"]),
            "minItems": st.integers(0, 2),
            "maxItems": st.integers(0, 2),
            "minProperties": st.integers(0, 2),
            "maxProperties": st.integers(0, 2),
            "required": st.lists(st.sampled_from("abx"), max_size=2, unique=True),
            "description": st.just("text"),
        },
    )
    return st.recursive(
        leaf,
        lambda inner: st.fixed_dictionaries(
            {},
            optional={
                "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
                "additionalProperties": inner,
                "items": inner,
                "required": st.lists(st.sampled_from("abx"), max_size=2, unique=True),
            },
        ),
        max_leaves=5,
    )


@given(schema=_schemas(), document=DOCUMENTS)
@hypothesis_settings(max_examples=600, deadline=None)
def test_verdicts_are_those_of_another_implementation(schema: Any, document: Any) -> None:
    fits = Draft202012Validator(schema).is_valid(document)
    text = canonical_json(document)
    compiled = JsonSchema(canonical_json(schema))
    assert compiled.fits(text) == fits
    assert (compiled.violations(text, limit=5) == []) == fits
