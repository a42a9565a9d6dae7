"""Whatever schema and document a stranger writes, a check of them ends within the time that an event loop can spare."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune_contract.schemas.cost import MAX_DEPTH
from attune_contract.schemas.json_schema import MAX_SCHEMA_BYTES, CheckTooCostlyError, JsonSchema
from attune_contract.schemas.patterns import places
from attune_contract.schemas.structure import MAX_IN_PLACE, MAX_NESTING, MAX_PARTS, UnusableSchemaError

#: Seconds of CPU for one check or one compilation. 50 ms are promised on a machine that has nothing else to do.
PROMISED = 0.2


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


def _judge(schema: Any, document: Any) -> tuple[str, float]:
    """What becomes of a check, and the longest step in seconds of CPU."""
    text, document_text = _text(schema), _text(document)
    began = time.process_time()
    try:
        compiled = JsonSchema(text)
    except UnusableSchemaError:
        return "unusable", time.process_time() - began
    compiling = time.process_time() - began
    began = time.process_time()
    try:
        found = compiled.violations(document_text, value=document, limit=3)
        verdict = "wrong" if found else "fits"
        assert all(len(each.message) < 2000 for each in found)
    except CheckTooCostlyError:
        verdict = "costly"
    return verdict, max(compiling, time.process_time() - began)


def _judged(schema: Any, document: Any) -> tuple[str, float]:
    """As :func:`_judge`, the shortest of several where one took long: Python collects garbage at times, of all tests."""
    found = _judge(schema, document)
    for _ in range(4):
        if found[1] >= PROMISED:
            found = min(found, _judge(schema, document), key=lambda each: each[1])
    return found


def _nested(depth: int, name: str = "x") -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {name: value}
    return value


def _chain(length: int, last: Any, keyword: str = "allOf") -> dict[str, Any]:
    definitions = {f"r{k}": {keyword: [{"$ref": f"#/$defs/r{k + 1}"}]} for k in range(length)}
    return {"$defs": {**definitions, f"r{length}": last}, "$ref": "#/$defs/r0"}


_DOUBLING = {"properties": {"x": {"$ref": "#/$defs/d"}}}
_UNEVALUATED: Any = {"type": "object", "properties": {"a": {}}}
for _ in range(12):
    _UNEVALUATED = {"allOf": [_UNEVALUATED], "unevaluatedProperties": False}
_LIMITS = {
    "a pattern that outgrows its automaton": ({"pattern": "[ab]*a[ab]{1000}c"}, "ab" * 250_000),
    "the same on a short text": ({"pattern": "[ab]*a[ab]{100}c"}, "ab" * 1500),
    "nineteen such patterns": ({"allOf": [{"pattern": f"[ab]*a[ab]{{{150 + k}}}c"} for k in range(19)]}, "ab" * 20_000),
    "such a pattern of names": ({"patternProperties": {"[ab]*a[ab]{1000}c": {}}}, {"ab" * 30_000: 1}),
    "a pattern of Unicode classes": ({"pattern": r"(?:\\w{0,30}[^a]){20}c".replace("\\\\", "\\")}, "aé" * 20_000),
    "the largest patterns": ({"allOf": [{"pattern": f"a{{{k}}}b"} for k in range(2, 74)]}, "a" * 200_000),
    "rare cron expressions": ({"items": {"format": "cron"}}, [f"{k % 60} {k % 24} 29 2 1" for k in range(6000)]),
    "time zones": ({"items": {"format": "timezone"}}, [f"Etc/Nowhere{k}" for k in range(20_000)]),
    "990 properties": ({"properties": {f"p{k}": {"type": "string", "maxLength": k} for k in range(990)}}, {"p1": "x"}),
    "a schema of 256 KiB": ({"enum": ["x" * 20 + str(k) for k in range(8500)]}, "y"),
    "references that fan out": (
        {
            "$defs": {
                **{f"a{k}": {"allOf": [{"$ref": f"#/$defs/a{k - 1}"}] * 2} for k in range(1, 40)},
                "a0": {"type": "object"},
            },
            "$ref": "#/$defs/a39",
        },
        {},
    ),
    "a tree that doubles with each level": ({"$defs": {"d": {"allOf": [_DOUBLING] * 2}}, "$ref": "#/$defs/d"}, _nested(30)),
    "a chain of references at each level": (
        _chain(MAX_IN_PLACE // 2 - 2, {"properties": {"x": {"$ref": "#/$defs/r0"}}, "required": ["y"]}),
        _nested(MAX_DEPTH - 1),
    ),
    "alternatives in alternatives": (
        _chain(MAX_IN_PLACE // 2 - 2, {"properties": {"x": {"$ref": "#/$defs/r0"}}, "required": ["y"]}, "anyOf"),
        _nested(MAX_DEPTH - 1),
    ),
    "unevaluated in unevaluated": (_UNEVALUATED, {"a": 1}),
    "many mistakes": ({"items": {"type": "null"}}, [1] * 240_000),
    "many mistakes in alternatives": ({"anyOf": [{"items": {"type": "null"}}] * 20}, [1] * 20_000),
    "many mistakes in objects": ({"items": {"required": [f"r{k}" for k in range(200)]}}, [{}] * 3000),
    "many unknown properties": ({"additionalProperties": False}, {f"p{k}": 1 for k in range(60_000)}),
    "many items": ({"items": {"type": "integer"}}, list(range(90_000))),
    "unique items": ({"uniqueItems": True}, [{"a": k} for k in range(60_000)]),
    "unique items in unique items": (
        {"$defs": {"u": {"uniqueItems": True, "items": {"$ref": "#/$defs/u"}}}, "$ref": "#/$defs/u"},
        [[[[[[[[k]]]]]]] for k in range(20_000)],
    ),
    "large constants": ({"items": {"enum": [{"a": [k] * 10} for k in range(900)]}}, [{"a": [899] * 10}] * 1000),
    "exact fractions": ({"items": {"multipleOf": 1e-300}}, [1e300] * 20_000),
    "comparisons": (
        {"items": {"x-attune-comparisons": [{"left": "a", "is": "<", "right": "b"}] * 16}}, [{"a": 1.5, "b": 2.5}] * 5000
    ),
    "lengths": ({"anyOf": [{"minLength": 10**7 + k} for k in range(900)]}, "a" * 500_000),
    "many recursive parts": (
        {"properties": {f"p{k}": {"anyOf": [{"$ref": "#"}, {"type": "null"}]} for k in range(300)}},
        _nested(30, "p7"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", _LIMITS)
def test_objects_near_the_limits_take_no_more_than_the_loop_can_spare(case: str) -> None:
    schema, document = _LIMITS[case]
    verdict, seconds = _judged(schema, document)
    assert seconds < PROMISED, f"{verdict} after {seconds:.2f} s"


def test_what_is_in_use_is_far_below_the_bounds() -> None:
    """Plain documents of some size are checked, and what is wrong with them is listed."""
    schema = {
        "type": "object",
        "required": ["name", "rows"],
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
            "url": {"type": "string", "pattern": "^https?://"},
            "rows": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "integer"}}}},
        },
        "additionalProperties": False,
    }
    good = {"name": "a" * 60, "url": "https://" + "x" * 30_000, "rows": [{"k": k} for k in range(5000)]}
    assert _judge(schema, good)[0] == "fits"
    compiled = JsonSchema(_text(schema))
    bad = {**good, "rows": [{"k": k} for k in range(150)], "name": "UPPER", "extra": 1}
    assert len(compiled.violations(_text(bad), limit=5)) == 2
    large = {**good, "rows": [{"k": "no"} for _ in range(5000)]}
    assert [each.path for each in compiled.violations(_text(large), limit=5)] == [("rows", 0, "k")]


def test_of_a_large_document_few_mistakes_are_described() -> None:
    """Each has a copy of the whole in the library: 34 of them, of 1 MB, would take 50 ms."""
    compiled = JsonSchema(_text({"allOf": [{"minProperties": 100 + k} for k in range(34)]}))
    assert len(compiled.violations(_text({"a": "x" * 1_000_000}), limit=3)) == 1
    assert len(compiled.violations(_text({"a": "x" * 100_000}), limit=3)) == 3


def test_a_document_that_is_too_large_to_list_its_mistakes_is_refused_in_a_sentence() -> None:
    compiled = JsonSchema(_text({"items": {"oneOf": [{"type": "string"}, {"type": "null"}]}}))
    (only,) = compiled.violations(_text([1] * 5000), limit=5)
    assert "too large for its mistakes to be listed" in only.message


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"a": [{}] * MAX_PARTS}, f"{MAX_PARTS + 1} objects"),
        (_nested(MAX_NESTING + 1), "levels deep"),
        (_chain(MAX_IN_PLACE, {}), "references follow each other"),
        ({"description": "x" * MAX_SCHEMA_BYTES}, "bytes, and 262144 are allowed"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, "without end"),
        ({"$ref": "file:///etc/passwd"}, "only references within a schema are followed"),
        ({"$ref": "#/$defs/a/1", "$defs": {"a": [True]}}, "which is not in it"),
        ({"$ref": 5}, "$ref is not a string"),
    ],
)  # fmt: skip
def test_a_schema_beyond_the_bounds_is_not_taken(schema: Any, said: str) -> None:
    with pytest.raises(UnusableSchemaError) as caught:
        JsonSchema(_text(schema))
    assert said in str(caught.value)


def test_references_that_are_followed() -> None:
    schema = {
        "$id": "https://example.org/s",
        "$defs": {"a/b": {"type": "integer"}, "c": {"$anchor": "here", "minimum": 3}},
        "properties": {
            "p": {"$ref": "#/$defs/a~1b"},
            "q": {"$ref": "https://example.org/s#/$defs/c"},
            "r": {"$ref": "#here"},
            "again": {"$ref": "#"},
        },
    }
    compiled = JsonSchema(_text(schema))
    for name, good, bad in (("p", 1, "1"), ("q", 3, 2), ("r", 3, 2)):
        assert compiled.fits(_text({name: good}))
        assert not compiled.fits(_text({"again": {"again": {name: bad}}}))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("^https?://", 8), ("[a-z0-9]", 1), ("a{10}", 10), ("a{2,10}", 10), ("a{3,}", 4), ("(ab){5}", 10), ("(a{3}b){2}", 8),
        ("a|b", 2), (".", 4), (r"\w{10}", 40), (r"\p{L}", 30), (r"\x{41}", 4), ("[^a]", 4), ("(?i)ab", 4), ("(?:ab)+", 2),
        ("[]a]", 1), ("((a{10}){10}){10}", 1000), ("", 0), ("é", 2), (r"\.{3}", 3),
    ],
)  # fmt: skip
def test_places_of_a_pattern(pattern: str, expected: int) -> None:
    assert places(pattern) == expected


@given(st.text(alphabet="ab(){}[]|*+?^$\\,.0123456789iwpL:é", max_size=40))
@settings(max_examples=400, deadline=None)
def test_no_pattern_breaks_the_counting_or_takes_long(pattern: str) -> None:
    def seconds() -> float:
        began = time.process_time()
        assert places(pattern) >= 0
        return time.process_time() - began

    assert any(seconds() < PROMISED for _ in range(5))


_KEYWORDS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(
        ["type", "enum", "const", "pattern", "required", "minimum", "uniqueItems", "multipleOf", "format", "$ref", "$id"]
    ),
    st.sampled_from(
        ["object", "string", ["a"], 1, 0.1, True, "cron", "#", "#/$defs/a", "[ab]*a[ab]{40}c", [{"a": 1}], {}, None]
    ),
    max_size=4,
)  # fmt: skip


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=4)
    named = st.dictionaries(st.sampled_from(["a", "b", "x"]), inner, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "allOf": lists, "anyOf": lists, "oneOf": lists, "prefixItems": lists, "not": inner, "if": inner, "then": inner,
            "items": inner, "contains": inner, "propertyNames": inner, "additionalProperties": inner,
            "unevaluatedProperties": inner, "unevaluatedItems": inner, "properties": named, "patternProperties": named,
            "dependentSchemas": named, "$defs": named, "$ref": st.sampled_from(["#", "#/$defs/a", "#/$defs/b"]),
        },
    )  # fmt: skip


@given(
    schema=st.recursive(_KEYWORDS | st.booleans(), _grown, max_leaves=25),
    document=st.recursive(
        st.integers() | st.text(alphabet="ab", max_size=50) | st.none(),
        lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.sampled_from(["a", "b", "x"]), inner),
        max_leaves=60,
    ),
)
@settings(max_examples=400, deadline=None)
def test_no_schema_and_document_take_long_or_crash(schema: Any, document: Any) -> None:
    verdict, seconds = _judged(schema, document)
    assert seconds < PROMISED, verdict
