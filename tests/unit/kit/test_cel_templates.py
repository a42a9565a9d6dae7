"""Texts with expressions in them (docs/actions.md, "Expressions")."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune_kit.cel.library import Expression as Compiled
from attune_kit.cel.templates import (
    MOST_LEVELS,
    Expression,
    LocatedTemplateError,
    TemplateError,
    as_text,
    expressions_in,
    parse,
    render,
)

EVENT = {"id": "e-1", "rule": {"name": "nightly"}, "payload": {"n": 3, "list": [1, 2], "none": None, "ok": True}}


def evaluated(value: Any) -> Any:
    """What a value becomes for :data:`EVENT`."""
    sources = {expression.source for _, expression in expressions_in(value)}
    results = {each: Compiled(each, variables=("event",)).evaluate({"event": EVENT}) for each in sources}
    return render(value, results)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("plain", ("plain",)),
        ("costs $5 and {this}", ("costs $5 and {this}",)),
        ("${event.id}", (Expression("event.id", 3),)),
        ("a ${ event.id } b", ("a ", Expression("event.id", 6), " b")),
        ("${a}${b}", (Expression("a", 3), Expression("b", 7))),
        ("$${a}", ("${a}",)),
        ("$$${a}", ("$${a}",)),
        ("$${a} ${b}", ("${a} ", Expression("b", 9))),
        ("${{'a': 1}.a}", (Expression("{'a': 1}.a", 3),)),
        ("${'}' + \"}\" + r'\\}'}", (Expression("'}' + \"}\" + r'\\}'", 3),)),
        ("${'''}'''}!", (Expression("'''}'''", 3), "!")),
        ("${a // } is in a comment\n}", (Expression("a // } is in a comment", 3),)),
        ("${a}}", (Expression("a", 3), "}")),
        ("${'${a}'}", (Expression("'${a}'", 3),)),
        ("$ {a}", ("$ {a}",)),
        ("${'}", (Expression("'", 3),)),  # no string: the check of the expression says so
    ],
)
def test_parts_of_a_text(text: str, parts: tuple[Any, ...]) -> None:
    assert parse(text).parts == parts


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("${event.id", 1, "no closing }"),
        ("ab ${" + "a" * 5000 + " }", 4, "more than 4096"),
        ("ab ${a[}", 4, "no closing }"),
        ("x ${}", 3, "no expression between"),
        ("x ${ \n }", 3, "no expression between"),
        ("${a} ${", 6, "no closing }"),
    ],
)
def test_what_is_no_template(text: str, column: int, words: str) -> None:
    with pytest.raises(TemplateError, match=words) as caught:
        parse(text)
    assert caught.value.column == column


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${event.payload.n}", 3),
        ("${event.payload.list}", [1, 2]),
        ("${event.payload.none}", None),
        ("${event.payload}", EVENT["payload"]),
        ("n=${event.payload.n}", "n=3"),
        ("${event.payload.ok}, ${event.payload.list}, ${event.payload.none}.", "true, [1,2], ."),
        ({"a": ["${event.id}", 1, None], "${event.id}": "$${event.id}"}, {"a": ["e-1", 1, None], "${event.id}": "${event.id}"}),
        ("${event.rule.name} ${{'a': {'b': '}'}}.a.b}", "nightly }"),
    ],
)  # fmt: skip
def test_values_keep_their_type_only_where_they_are_the_whole_text(value: Any, expected: Any) -> None:
    assert evaluated(value) == expected


def test_texts_are_read_in_time_that_grows_with_their_length() -> None:
    began = time.process_time()
    assert len(parse("${a}" * 16_000).expressions) == 16_000
    assert time.process_time() - began < 5, "16 times as many took 256 times as long when each read the rest"


def test_where_expressions_are() -> None:
    assert expressions_in({"a": ["x", "b ${c}"], "d": {"e": "${f}${g}"}}) == [
        (("a", 1), Expression("c", 5)),
        (("d", "e"), Expression("f", 3)),
        (("d", "e"), Expression("g", 7)),
    ]


def test_an_error_says_in_which_text() -> None:
    with pytest.raises(LocatedTemplateError) as caught:
        expressions_in({"a": [{"b": "x ${"}]})
    assert (caught.value.path, caught.value.column) == (("a", 0, "b"), 3)


def test_nesting_is_bounded() -> None:
    value: Any = "x"
    for _ in range(MOST_LEVELS + 1):
        value = [value]
    with pytest.raises(TemplateError, match="nested"):
        expressions_in(value)


def test_a_result_is_not_read_again() -> None:
    assert render("a ${x}", {"x": "${y}"}) == "a ${y}"
    assert render({"k": "${x}"}, {"x": ["${y}", '"}, {"']}) == {"k": ["${y}", '"}, {"']}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def escaped(text: str) -> str:
    """The template of a literal text."""
    return text.replace("${", "$${")


@given(st.text())
def test_an_escaped_text_is_itself(text: str) -> None:
    template = parse(escaped(text))
    assert not template.expressions
    assert template.render({}) == text


@given(JSON)
def test_an_escaped_value_is_itself(value: Any) -> None:
    def escape(inner: Any) -> Any:
        if isinstance(inner, str):
            return escaped(inner)
        if isinstance(inner, dict):
            return {key: escape(each) for key, each in inner.items()}
        return [escape(each) for each in inner] if isinstance(inner, list) else inner

    assert render(escape(value), {}) == value


#: Texts that do not end in ``$``, which would make the expression after it a literal.
LITERALS = st.text().filter(lambda text: not text.endswith("$"))


@given(st.lists(st.tuples(LITERALS, JSON), min_size=1, max_size=5), LITERALS)
def test_results_are_put_between_literals(pairs: list[tuple[str, Any]], last: str) -> None:
    """Whatever the results are, they change nothing around them: expressions are strings that hold any character."""
    sources = [json.dumps(f"}}{number}{{", ensure_ascii=True) for number in range(len(pairs))]
    text = "".join(f"{escaped(literal)}${{{source}}}" for (literal, _), source in zip(pairs, sources, strict=True))
    results = {source: value for (_, value), source in zip(pairs, sources, strict=True)}
    text += escaped(last)
    rendered = render(text, results)
    if len(pairs) == 1 and not pairs[0][0] and not last:
        assert rendered == pairs[0][1]
    else:
        assert rendered == "".join(literal + as_text(value) for literal, value in pairs) + last


@given(st.text(alphabet="${}'\"a\\ r\n/"))
def test_any_text_is_a_template_or_an_error_with_a_place(text: str) -> None:
    try:
        places = [(expression.column, expression.source) for expression in parse(text).expressions]
    except TemplateError as error:
        places = [(error.column, "${")]
    for column, begins in places:
        assert text[column - 1 :].startswith(begins)
