"""CEL as Kubernetes' policies have it (docs/cel.md). The tables of that page are tests."""

import re
from pathlib import Path
from typing import Any

import pytest

from attune_kit.cel.library import LONGEST, EvaluationError, Expression, ExpressionError
from attune_kit.cel.quantities import Version, parse_quantity
from attune_kit.cel.tokens import adapted, names, tokens

VARIABLES = ("object", "oldObject")
OBJECT = {
    "a": "3",
    "none": None,
    "l": [3, 1, 2],
    "mixed": [1, 2.5],
    "m": {"k": "v", "none": None},
    "image": "r.io/app:1.2",
}
DOCUMENT = Path(__file__).parents[3] / "docs" / "cel.md"


def value(text: str, **values: Any) -> Any:
    return Expression(text, variables=VARIABLES).evaluate({"object": OBJECT, "oldObject": None, **values})


def rows(heading: str) -> list[list[str]]:
    section = DOCUMENT.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines[2:]]


def examples() -> list[str]:
    return [text.replace("\\|", "|") for row in rows("What there is") for text in re.findall(r"`([^`]+)`", row[1])]


@pytest.mark.parametrize("text", examples())
def test_what_the_page_says_there_is(text: str) -> None:
    assert value(text) is True


@pytest.mark.parametrize("row", rows("What there is not"), ids=lambda row: row[0])
def test_what_the_page_says_there_is_not(row: list[str]) -> None:
    for text in re.findall(r"`([^`]+)`", row[0]):
        with pytest.raises((ExpressionError, EvaluationError)):
            value(text.replace("\\|", "|"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("has(object.none.x)", False),
        ("has(object.a.x)", False),
        ("has(object.l.x)", False),
        ("has(object.m.none.x)", False),
        ("has(object.m.k)", True),
        ("object.l.all(x, x > 0 && !has(x.y))", True),
        ("['a'].all(k, object.a != k) && !has(object.m.x) && [object].all(v, !has(v.m.y) && has(v.m.k))", True),
        ("has(object.m.x)", False),
        ("has(object.none)", True),
        ("has(oldObject.x)", False),
        ("has(oldObject.x.y) || true", True),
        ("object.m.all(k, has(object.m.none.x) == false)", True),
        ("oldObject.?x.?y.orValue(1)", 1),
        ("oldObject[?'x'].orValue(2)", 2),
        ("'has(object.x.y)'", "has(object.x.y)"),
        ("oldObject == null", True),
    ],
)
def test_has_of_null_and_of_texts_is_as_in_kubernetes(text: str, expected: object) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'n': size(object.l), 'f': 0.5, 't': true, 'no': null}", {"n": 3, "f": 0.5, "t": True, "no": None}),
        ("{1: 'a', 2: 'b'}", {"1": "a", "2": "b"}),
        ("{true: 'a'}", {"true": "a"}),
        ("duration('90m')", "5400s"),
        ("duration('1500ms')", "1.5s"),
        ("timestamp('2026-01-01T01:00:00+01:00')", "2026-01-01T00:00:00Z"),
        ("b'ab'", "YWI="),
        ("type(1)", None),
        ("1.0 / 0.0", None),
        ("18446744073709551615u", 18446744073709551615),
        ("object.mixed.sum()", 3.5),
    ],
)
def test_values_are_as_json_has_them(text: str, expected: object) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("object..", "column 8: Syntax error"),
        ("nothing == 1", "column 1: unknown variable nothing; expected one of: object, oldObject"),
        ("true && request.name == 'x'", "column 9: request is not available here; expected one of: object, oldObject"),
        ("object.foo(1)", "column 8: unknown function foo"),
        ("true || foo(1)", "column 9: unknown function foo"),
        ("1 + 'a' == 2", "column 3: found no matching overload for '_+_' applied to '(int, string)'"),
        ("object.a.matches('(?=a)')", "column 18: '(?=a)' is not a valid regular expression"),
        ("timestamp(object.a).getHours('Berlin') == 1", "column 30: 'Berlin' is not a valid time zone"),
        ("duration('1d') == object.a", "column 10: '1d' is not a valid duration"),
        (
            "quantity('1x') == object.a",
            "column 10: '1x' is not a valid quantity: '1x' is not a quantity; expected one like",
        ),
        ("['a'].indexOf(duration('1s'), 1) == 1", "found no matching overload for 'indexOf'"),
        ("+".join(["'a'"] * 40), "it is nested too deeply: at most 32 levels"),
        ("x" * (LONGEST + 1), f"it has {LONGEST + 1} characters; at most {LONGEST} are allowed"),
    ],
)
def test_what_is_wrong_is_said_with_its_column(text: str, complaint: str) -> None:
    with pytest.raises(ExpressionError) as error:
        Expression(text, variables=VARIABLES)
    assert complaint in str(error.value)


def test_conditions_are_true_or_false() -> None:
    with pytest.raises(ExpressionError, match="it gives string; expected true or false"):
        Expression("'text'", variables=VARIABLES, condition=True)
    with pytest.raises(EvaluationError, match="it gives a text; expected true or false"):
        Expression("object.a", variables=VARIABLES, condition=True).evaluate({"object": OBJECT})


def test_an_evaluation_that_fails_says_why() -> None:
    with pytest.raises(EvaluationError, match='Key not found in map : "missing"'):
        value("object.missing")


def test_loops_have_a_budget() -> None:
    with pytest.raises(EvaluationError, match="budget"):
        value("object.l.all(a, object.l.all(b, a + b >= 0))", object={"l": list(range(1000))})


def test_zones_are_those_that_are_shipped() -> None:
    assert value("timestamp('2026-12-01T12:00:00Z').getHours('America/Vancouver')") == 5, "2026b and later"


def test_tokens_know_strings_and_comments() -> None:
    text = """has(a.b) // has(c)\n && r'\\' + 'has(d)' + \"""x"y\""" + b'z' """
    assert [token.text for token in tokens(text) if token.kind == "string"] == [
        "r'\\'",
        "'has(d)'",
        '"""x"y"""',
        "b'z'",
    ]
    assert names("object.a.exists(x, x == oldObject.b) // request") == {"object", "x", "oldObject"}
    assert adapted("object.a", variables=VARIABLES) == "object . a"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1Gi", 1073741824),
        ("500m", "0.5"),
        ("1e3", 1000),
        ("1E", 10**18),
        ("-1.5k", -1500),
        (".5", "0.5"),
        ("+2", 2),
        ("1.", 1),
    ],
)
def test_quantities(text: str, number: object) -> None:
    assert parse_quantity(text) == parse_quantity(str(number))


@pytest.mark.parametrize("text", ["", "1 Gi", "1gi", "Gi", "1e", "1KiB", "--1", "1_000", "٣", "1" * 200])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)


def test_versions_are_in_the_order_of_semver_org() -> None:
    order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1",
             "1.0.0", "1.9.0", "1.10.0+build"]  # fmt: skip
    assert sorted([*order[5:], *order[:5]], key=lambda text: Version(text).key()) == order
    assert Version("v01.2", normalize=True).numbers == (1, 2, 0)
    for wrong in ("1.2", "v1.2.3", "1.2.3-01", "1.2.x"):
        with pytest.raises(ValueError, match="is not a semantic version"):
            Version(wrong)
