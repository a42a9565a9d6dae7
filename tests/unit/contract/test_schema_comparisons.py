"""``x-attune-comparisons``: what one parameter has to be in view of another."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune_contract.identity import SensorRef
from attune_contract.schemas.comparisons import KEYWORD, MAX_COMPARISONS, UNITS, parse_comparisons
from attune_contract.schemas.json_schema import JsonSchema
from attune_operator.resources.canonical import canonical_json
from attune_operator.rules.records import TriggerDeclaration
from attune_operator.rules.validation import check_parameters


def problem(parameters: Any, comparisons: Any, **schema: Any) -> str | None:
    return check_parameters(
        parameters=canonical_json(parameters),
        value=parameters,
        trigger=TriggerDeclaration(
            name="acme.window", aliases=(), schema=canonical_json({KEYWORD: comparisons, **schema})
        ),
        sensor=SensorRef("default", "windows"),
    )


ORDER = [{"left": "start", "is": "<", "right": "end"}]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"start": 1, "end": 2}, None),
        ({"start": 2, "end": 2}, "parameters.start: start has to be less than end"),
        ({"start": 0.1, "end": 0.30000000000000004}, None),
        ({"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:00.000001Z"}, None),
        ({"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00+01:00"}, "start has to be before end"),
        ({"start": "2026-01-01t00:00:00z", "end": "2025-12-31T00:00:00Z"}, "start has to be before end"),
        # One is not there, or they cannot be compared: others have to speak of that.
        ({"end": 1}, None),
        ({}, None),
        ({"start": None, "end": 1}, None),
        ({"start": "b", "end": "a"}, None),
        ({"start": 5, "end": "2026-01-01T00:00:00Z"}, None),
        ({"start": True, "end": False}, None),
        ({"start": [2], "end": [1]}, None),
        ([2, 1], None),
        ("text", None),
    ],
)
def test_numbers_and_times(parameters: Any, said: str | None) -> None:
    found = problem(parameters, ORDER)
    assert found is None if said is None else said in (found or "")


@pytest.mark.parametrize(
    ("symbol", "holding", "said"),
    [
        ("<", (1,), "less than"), ("<=", (1, 2), "at most"), (">", (3,), "more than"), (">=", (2, 3), "at least"),
        ("==", (2,), "equal to"), ("!=", (1, 3), "different from"),
    ],
)  # fmt: skip
def test_operators(symbol: str, holding: tuple[int, ...], said: str) -> None:
    for value in (1, 2, 3):
        found = problem({"a": value}, [{"left": "a", "is": symbol, "right": 2}])
        assert found == (None if value in holding else f"parameters.a: a has to be {said} 2")


def test_lengths_of_time() -> None:
    rule = [{"left": {"property": "every", "unit": "unit"}, "is": ">=", "right": 90, "message": "too often"}]
    for every, unit, good in (
        (89, None, False), (90, None, True), (1.5, "minutes", True), (1.499, "minutes", False), (1, "days", True),
        (89_999, "milliseconds", False), (90_000, "milliseconds", True), (0, "fortnights", True), (0, 5, True),
    ):  # fmt: skip
        parameters = {"every": every, **({} if unit is None else {"unit": unit})}
        assert (problem(parameters, rule) is None) == good
        assert good or problem(parameters, rule) == "parameters.every: too often"
    assert list(UNITS) == ["milliseconds", "seconds", "minutes", "hours", "days", "weeks"]


def test_objects_inside_are_compared_too_and_named() -> None:
    schema = {"properties": {"windows": {"items": {KEYWORD: ORDER}}}}
    assert problem({"windows": [{"start": 1, "end": 2}, {"start": 2, "end": 1}]}, [], **schema) == (
        "parameters.windows[1].start: start has to be less than end"
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("end >= start", "is a list of at most"),
        ([ORDER[0]] * (MAX_COMPARISONS + 1), "is a list of at most 16 comparisons"),
        (["x"], "x-attune-comparisons[0] has left, is and right"),
        ([{"left": "a", "is": "<"}], "has left, is and right"),
        ([{**ORDER[0], "when": "x"}], "has left, is and right"),
        ([ORDER[0], {**ORDER[0], "is": "=~"}], "x-attune-comparisons[1].is is one of < <= > >= == !="),
        ([{**ORDER[0], "is": []}], ".is is one of"),
        ([{**ORDER[0], "message": "x" * 201}], ".message is a text of at most 200"),
        ([{**ORDER[0], "left": True}], ".left is the name of a property, a number, or"),
        ([{**ORDER[0], "left": {"property": "a"}}], ".left is the name of a property"),
        ([{**ORDER[0], "right": {"property": "a", "unit": 5}}], ".right is the name of a property"),
        ([{"left": 1, "is": "<", "right": 2}], "names no property"),
    ],
)
def test_a_comparison_that_is_none_is_blamed_on_the_sensor(value: Any, said: str) -> None:
    found = problem({"start": 1, "end": 2}, value) or ""
    assert said in found
    assert "The parametersSchema of acme.window in the Sensor default/windows cannot be used" in found


@given(
    st.dictionaries(
        st.sampled_from(["start", "end", "unit"]),
        st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.none(), st.booleans())
        | st.sampled_from(["weeks", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]),
    )
)
def test_no_document_breaks_it(parameters: dict[str, Any]) -> None:
    rules = [*ORDER, {"left": {"property": "end", "unit": "unit"}, "is": "<=", "right": 1e9}]
    found = [each.problem(parameters) for each in parse_comparisons(rules)]
    schema = JsonSchema(canonical_json({KEYWORD: rules}))
    assert schema.fits(canonical_json(parameters)) == (found == [None, None])
