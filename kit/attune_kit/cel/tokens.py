"""The tokens of a CEL expression (the language definition, section "Syntax"), and rewriting by tokens. Pure.

Rewriting mends what Google's runtime does differently from Kubernetes and cannot be told. Only what is evaluated is rewritten;
errors come from the text as it was written, so columns are right.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
    | (?P<string>(?:[rRbB]{0,2})(?:'{3}(?:[^\\]|\\.)*?'{3}|"{3}(?:[^\\]|\\.)*?"{3}|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"))
    | (?P<number>0[xX][0-9a-fA-F]+[uU]?|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?[uU]?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*|`[^`]*`)
    | (?P<mark>\.\?|\[\?|&&|\|\||[=!<>]=|.)
    """,
    re.VERBOSE | re.DOTALL,
)
#: A raw string ends at its first quote, whatever is before it.
_RAW: Final = re.compile(r"""(?:[bB]?[rR][bB]?)(?:'{3}.*?'{3}|"{3}.*?"{3}|'[^'\n]*'|"[^"\n]*")""", re.DOTALL)
#: Functions that we have under another name, as the runtime's own ones take no more overloads. The length stays the same, so
#: columns do too.
RENAMED: Final = {"indexOf": "indexof", "lastIndexOf": "lastIndexof"}
OPEN: Final = {"(": ")", "[": "]", "[?": "]", "{": "}"}


class Token(NamedTuple):
    """One token. ``start`` is where it begins in the expression."""

    kind: str
    text: str
    start: int


def tokens(expression: str) -> list[Token]:
    """The tokens without blanks and comments."""
    return list(scan(expression))


def scan(text: str, at: int = 0) -> Iterator[Token]:
    """The tokens from a place in a text on, one by one: who stops early has not read the rest."""
    while at < len(text):
        match = _RAW.match(text, at)
        kind = "string"
        if match is None:
            match = _TOKEN.match(text, at)
            if match is None:  # pragma: no cover - the last alternative takes anything
                break
            kind = match.lastgroup or "mark"
        if kind != "space":
            yield Token(kind, match[0], at)
        at = match.end()


def closing(of: Sequence[Token], opening: int) -> int | None:
    """The index of the bracket that closes the one at ``opening``; None when there is none."""
    waiting: list[str] = []
    for index in range(opening, len(of)):
        text = of[index].text
        if of[index].kind == "mark":
            if text in OPEN:
                waiting.append(OPEN[text])
            elif waiting and text == waiting[-1]:
                waiting.pop()
                if not waiting:
                    return index
    return None


def names(expression: str) -> frozenset[str]:
    """Names that stand for variables, functions or macros: all that do not follow a dot."""
    found = tokens(expression)
    return frozenset(
        token.text
        for index, token in enumerate(found)
        if token.kind == "name" and (index == 0 or found[index - 1].text not in {".", ".?"})
    )


def string_calls(expression: str) -> Iterator[tuple[str, str, bool, int]]:
    """Calls whose only argument is a constant string: the name, the string as it is written, whether the call belongs to a
    value (``x.matches('…')``), and where the string begins.
    """
    found = tokens(expression)
    for index in range(len(found) - 2):
        name, bracket, text = found[index : index + 3]
        following = found[index + 3].text if index + 3 < len(found) else ""
        if name.kind == "name" and bracket.text == "(" and text.kind == "string" and following == ")":
            member = index > 0 and found[index - 1].text == "."
            yield name.text, text.text, member, text.start


def renamed(expression: str) -> str:
    """The expression with the names in :data:`RENAMED` replaced, all else in its place."""
    parts, at = [], 0
    found = tokens(expression)
    for index, token in enumerate(found):
        if token.text in RENAMED and index and found[index - 1].text == ".":
            parts += [expression[at : token.start], RENAMED[token.text]]
            at = token.start + len(token.text)
    return "".join([*parts, expression[at:]])


def adapted(expression: str, *, variables: Sequence[str]) -> str:
    """The expression to evaluate.

    - ``has(a.b.c)`` is false where ``a.b`` is null, a text or a number, as in Kubernetes; Google's runtime fails.
    - ``has(v.a)`` and ``v.?a`` of a variable read its stand-in ``v__``, which is an empty map where ``v`` is no map.
    - ``format.dns1123Label().validate(x)`` becomes one call, since functions in Python cannot return optional values.
    """
    return _adapt(tokens(renamed(expression)), frozenset(variables), [0])


def stand_in(variable: str) -> str:
    """The name of what stands for a variable where its being no map must not fail."""
    return f"{variable}__"


def _adapt(found: Sequence[Token], variables: frozenset[str], counter: list[int]) -> str:
    parts: list[str] = []
    index = 0
    while index < len(found):
        token = found[index]
        before = found[index - 1].text if index else ""
        following = found[index + 1].text if index + 1 < len(found) else ""
        if token.text == "has" and following == "(" and before not in {".", ".?"}:
            end = closing(found, index + 1)
            if end is not None:
                parts.append(_has(found[index + 2 : end], variables, counter))
                index = end + 1
                continue
        if token.text == "format" and before not in {".", ".?"}:
            length, text = _validate(found[index:], variables, counter)
            if length:
                parts.append(text)
                index += length
                continue
        if token.text in variables and before not in {".", ".?"} and following in {".?", "[?"}:
            parts.append(stand_in(token.text))
        else:
            parts.append(token.text)
        index += 1
    return " ".join(parts)


def _has(argument: Sequence[Token], variables: frozenset[str], counter: list[int]) -> str:
    text = _adapt(argument, variables, counter)
    if len(argument) < 3 or argument[-2].text != "." or argument[-1].kind != "name":
        return f"has( {text} )"
    field = argument[-1].text
    if len(argument) == 3 and argument[0].text in variables:
        return f"has( {stand_in(argument[0].text)} . {field} )"
    counter[0] += 1
    held = f"held_{counter[0]}"
    prefix = _adapt(argument[:-2], variables, counter)
    # Not cel.bind, which gives wrong results beside other loops (findings/cel-bind.sh).
    return f"[ {prefix} ].exists( {held} , type( {held} ) == map && has( {held} . {field} ) )"


def _validate(found: Sequence[Token], variables: frozenset[str], counter: list[int]) -> tuple[int, str]:
    """``format . NAME ( ) . validate ( … )``: how many tokens it has, and what stands for it; 0 when it is something else."""
    shape = [token.text for token in found[:7]]
    if len(shape) < 7 or shape[1] != "." or shape[3:7] != ["(", ")", ".", "validate"] or len(found) < 8:
        return 0, ""
    end = closing(found, 7)
    if end is None:
        return 0, ""
    argument = _adapt(found[8:end], variables, counter)
    return end + 1, f"optional.ofNonZeroValue( format_problems( '{shape[2]}' , {argument} ) )"
