"""Documents of a manifest whose every field knows its line, read as ``kubectl`` reads them.

Source: ``k8s.io/apimachinery/pkg/util/yaml`` 0.35 (how a file is split, when it is JSON) and ``go.yaml.in/yaml/v2`` (aliases,
merge keys, keys given twice: the last holds). Values are composed from libyaml's events. Its own loader recurses, so
a document of thousands of brackets would end the process.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import yaml

from attune_local.admission import scalars
from attune_local.admission.violation import FieldPath

_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SEPARATOR: Final = re.compile(r"^---(.*)$", re.MULTILINE)
_MERGE: Final = "tag:yaml.org,2002:merge"
_BYTE_ORDER_MARK: Final = "\ufeff"
#: Levels of nesting. Kubernetes takes 10,000; what has more than this is no manifest, and costs every program that reads it.
DEEPEST: Final = 100
#: Values of one document; more do not fit into an object that an API server stores.
_MOST_VALUES: Final = 1_000_000
#: From so many values on, most may not come from aliases: a few lines can stand for billions.
_FREE_ALIASES: Final = 100
_FREE_VALUES: Final = 1_000
_LOW: Final = 400_000
_HIGH: Final = 4_000_000


class DocumentError(ValueError):
    """The text cannot be read from this line on (counted from 1)."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """One document. ``value`` is what it says; ``line`` its first line; ``lines`` those of its fields."""

    value: Any
    line: int
    lines: dict[FieldPath, int] = field(repr=False)

    def line_of(self, path: FieldPath) -> int:
        """The line of a field; of what it should be in, when it is not there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, self.line)


class Part(NamedTuple):
    """A part of a file that is read by itself. ``offset`` lines come before it; ``problem`` says why it cannot be read."""

    offset: int
    text: str
    problem: str = ""


def split(text: str) -> Iterator[Part]:
    """The documents of a file, still as text: between lines that begin with ``---``, or one JSON object after the other."""
    text = text.removeprefix(_BYTE_ORDER_MARK)
    begin, values = 0, 0
    while text[begin:].lstrip()[:1] == "{":
        start = begin + len(text[begin:]) - len(text[begin:].lstrip())
        end = _end_of_json(text, start)
        if end is None:
            if values > 1:
                yield Part(
                    text.count("\n", 0, start), "", "this is not JSON, and a file of JSON objects cannot go on as YAML"
                )
                return
            break
        yield Part(text.count("\n", 0, start), text[start:end])
        begin, values = end, values + 1
    if values:
        # As kubectl: the rest of the line is passed over when nothing is in it.
        rest = text[begin:]
        begin += len(rest) - len(rest.lstrip(" \t\r"))
    yield from _split_yaml(text[begin:], text.count("\n", 0, begin))


def _split_yaml(text: str, offset: int) -> Iterator[Part]:
    begin = 0
    for match in [*_SEPARATOR.finditer(text), None]:
        end = match.start() if match is not None else len(text)
        if text[begin:end].strip():
            yield Part(offset + text.count("\n", 0, begin), text[begin:end])
        if match is None:
            return
        after = match[1].strip()
        if after and not after.startswith("#"):
            message = f"nothing but a comment may follow the line's ---, and here is {after[:40]!r}"
            yield Part(offset + text.count("\n", 0, end), "", message)
        begin = match.end()


def _end_of_json(text: str, start: int) -> int | None:
    """Where the JSON value that begins there ends; None when it is not JSON."""
    try:
        _, end = _SYNTAX.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return end


def read(text: str) -> Document | None:
    """The document of one part; None when it is empty. What follows a ``...`` is not looked at, as kubectl does not.

    Raises:
        DocumentError: it is not YAML, or JSON cannot hold what it says.
    """
    start = len(text) - len(text.lstrip())
    if text[start : start + 1] == "{":
        end = _end_of_json(text, start)
        if end is not None and not text[end:].strip():
            return _read_json(text)
    return _read_yaml(text)


def _read_yaml(text: str) -> Document | None:
    try:
        root = _Composer(yaml.parse(text, Loader=_Loader)).compose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        found = " ".join(part for part in (error.context, error.problem) if part)
        raise DocumentError(mark.line + 1 if mark is not None else 1, f"this is not YAML: {found}") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise DocumentError(1, f"this is not YAML: {error}") from None
    if root is None:
        return None
    builder = _Builder()
    value = builder.build(root, ())
    return None if value is None else Document(value, root.line, builder.lines)


# -- JSON


def _number(text: str) -> float | int | str | bool | None:
    whole = text.removeprefix("-")
    value = int(text) if whole.isdigit() and len(whole) < 20 else float(text)
    return scalars.as_json(value)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


_JSON: Final = json.JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=_no_number)
_SYNTAX: Final = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=_no_number)


def _read_json(text: str) -> Document:
    first = text.count("\n", 0, len(text) - len(text.lstrip())) + 1
    try:
        value = _well_formed(_JSON.decode(text), 0)
    except DocumentError:
        raise
    except ValueError as error:
        raise DocumentError(first, f"a number cannot be read: {error}") from None
    try:
        # YAML understands most of JSON, and knows the lines.
        root = _Composer(yaml.parse(text, Loader=_Loader)).compose()
        builder = _Builder()
        if root is not None:
            builder.build(root, ())
        return Document(value, first, builder.lines)
    except (yaml.YAMLError, DocumentError, UnicodeError):
        return Document(value, first, {})


def _well_formed(value: Any, depth: int) -> Any:
    """The value without lone surrogates, which Go replaces.

    Raises:
        DocumentError: it is nested too deeply.
    """
    if depth > DEEPEST:
        raise DocumentError(1, f"it is nested more than {DEEPEST} levels deep")
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_well_formed(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_well_formed(key, depth): _well_formed(item, depth + 1) for key, item in value.items()}
    return value


# -- YAML


@dataclass(slots=True)
class _Node:
    """A scalar (``text``), a list (``items``), an object (``pairs``) or an alias (``target``)."""

    line: int
    text: str | None = None
    plain: bool = False
    tag: str | None = None
    items: "list[_Node] | None" = None
    pairs: "list[tuple[_Node, _Node]] | None" = None
    target: "_Node | None" = None

    @property
    def is_merge(self) -> bool:
        return self.text == "<<" and (self.plain or self.tag == _MERGE)

    @property
    def is_object(self) -> bool:
        return self.pairs is not None or (self.target is not None and self.target.pairs is not None)


class _Composer:
    """Makes nodes of events, without recursion."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, _Node] = {}
        self._flow = 0

    def compose(self) -> _Node | None:
        """The first document's root; None when there is no document."""
        stack: list[tuple[_Node, list[_Node]]] = []
        for event in self._events:
            if isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
                continue
            if isinstance(event, yaml.StreamEndEvent | yaml.DocumentEndEvent):
                return None
            if isinstance(event, yaml.CollectionEndEvent):
                node, children = stack.pop()
                self._flow -= bool(self._flow)
                self._close(node, children)
            else:
                node = self._begin(event)
                if isinstance(event, yaml.CollectionStartEvent):
                    self._flow += bool(self._flow or event.flow_style)
                    stack.append((node, []))
                    if len(stack) > DEEPEST:
                        raise DocumentError(node.line, f"it is nested more than {DEEPEST} levels deep")
                    continue
            if not stack:
                return node
            stack[-1][1].append(node)
        return None

    def _begin(self, event: Any) -> _Node:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise DocumentError(line, f"there is no anchor {event.anchor!r}")
            return _Node(line, target=self._anchors[event.anchor])
        node = _Node(line, tag=event.tag)
        if isinstance(event, yaml.ScalarEvent):
            node.text, node.plain = event.value, bool(event.implicit[0])
            if self._flow and not event.style and "?" in event.value:
                raise DocumentError(
                    line, f"{event.value!r}: put a text with '?' in quotes here, kubectl cannot read it without"
                )
        elif isinstance(event, yaml.SequenceStartEvent):
            node.items = []
        else:
            node.pairs = []
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    @staticmethod
    def _close(node: _Node, children: list[_Node]) -> None:
        if node.items is not None:
            node.items = children
        else:
            node.pairs = list(zip(children[::2], children[1::2], strict=True))


class _Builder:
    """Makes values of nodes."""

    def __init__(self) -> None:
        self.lines: dict[FieldPath, int] = {}
        self._count = 0
        self._aliased = 0
        self._within: list[_Node] = []

    def build(self, node: _Node, path: FieldPath) -> Any:
        self._charge(node)
        if node.target is not None:
            return self._alias(node, path)
        self.lines.setdefault(path, node.line)
        if node.items is not None:
            return [self.build(item, (*path, index)) for index, item in enumerate(node.items)]
        if node.pairs is not None:
            result: dict[str, Any] = {}
            self._fill(result, node, path)
            return result
        try:
            return scalars.as_json(self._scalar(node))
        except ValueError as error:
            raise DocumentError(node.line, f"{node.text!r} cannot be read: {error}") from None

    def _charge(self, node: _Node) -> None:
        self._count += 1
        self._aliased += bool(self._within)
        if self._aliased > _FREE_ALIASES and self._count > _FREE_VALUES:
            part = min(1.0, max(0.0, (self._count - _LOW) / (_HIGH - _LOW)))
            if self._aliased / self._count > 0.99 - 0.89 * part:
                raise DocumentError(node.line, "aliases stand for too many values")
        if self._count > _MOST_VALUES:
            raise DocumentError(node.line, f"it has more than {_MOST_VALUES} values")

    def _alias(self, node: _Node, path: FieldPath) -> Any:
        target = node.target
        assert target is not None  # noqa: S101 - for the type checker
        if any(target is found for found in self._within) or len(self._within) > DEEPEST:
            raise DocumentError(node.line, "an anchor's value contains itself")
        if len(path) > DEEPEST:
            raise DocumentError(node.line, f"it is nested more than {DEEPEST} levels deep")
        self._within.append(target)
        try:
            return self.build(target, path)
        finally:
            self._within.pop()

    def _scalar(self, node: _Node) -> scalars.Scalar:
        return scalars.resolved(node.text or "", plain=node.plain, tag=node.tag)

    def _fill(self, result: dict[str, Any], node: _Node, path: FieldPath) -> None:
        for key_node, value_node in node.pairs or ():
            if key_node.is_merge:
                self._merge(result, value_node, path)
                continue
            key = self._key(key_node)
            self.lines[(*path, key)] = key_node.line
            result[key] = self.build(value_node, (*path, key))

    def _key(self, node: _Node) -> str:
        found = node.target or node
        self._charge(node)
        try:
            if found.text is None:
                raise ValueError("a key must be a text")
            return scalars.as_key(self._scalar(found))
        except ValueError as error:
            shown = repr(found.text) if found.text is not None else "this"
            raise DocumentError(node.line, f"{shown} cannot be a key: {error}") from None

    def _merge(self, result: dict[str, Any], node: _Node, path: FieldPath) -> None:
        """What ``<<`` brings, where it stands: keys before it are replaced, keys after it replace."""
        sources = [node] if node.items is None else list(reversed(node.items))
        for source in sources:
            if not source.is_object:
                raise DocumentError(source.line, "<< takes an object, or a list of objects")
            self._charge(source)
            target = source.target
            if target is None:
                self._fill(result, source, path)
            elif any(target is found for found in self._within):
                raise DocumentError(source.line, "an anchor's value contains itself")
            else:
                self._within.append(target)
                self._fill(result, target, path)
                self._within.pop()
