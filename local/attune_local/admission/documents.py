"""YAML documents whose every field knows its line.

Scalars are read as ``kubectl`` reads them: YAML 1.1 as Go does, without dates and numbers to the base of 60, since JSON has
neither; a key that is given twice is an error, as it is with ``kubectl apply`` (strict validation).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

import yaml

#: Where a value is inside a document: keys and indexes from its root.
FieldPath = tuple[str | int, ...]

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOT_JSON: Final = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
#: At the beginning of a line this always parts documents, also inside a text (YAML 1.1, section 5.2 "c-forbidden").
_MARKER: Final = re.compile(r"^---(?=\s|$)", re.MULTILINE)
#: Aliases may stand for aliases: a few lines can mean billions of values.
_MOST_VALUES: Final = 200_000


class _Loader(_Base):  # type: ignore[misc]
    """A safe loader without implicit types that JSON lacks."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NOT_JSON]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}


class Unreadable(ValueError):  # noqa: N818 - read as a sentence
    """The text is not YAML from this line on (counted from 1)."""

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


def split(text: str) -> Iterator[tuple[int, str]]:
    """The parts of a file between its ``---``, each with the count of lines before it. Each can be read by itself."""
    begin, lines = 0, 0
    for match in [*_MARKER.finditer(text), None]:
        end = match.start() if match is not None else len(text)
        part = text[begin:end]
        if part.strip():
            yield lines, part
        lines += part.count("\n")
        begin = end


def read(text: str) -> Iterator[Document]:
    """The documents of a file, one by one; empty ones are left out.

    Raises:
        Unreadable: after the documents that could be read.
    """
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            lines: dict[FieldPath, int] = {}
            value = _Builder(loader, lines).build(node, ())
            if value is not None:
                yield Document(value, node.start_mark.line + 1, lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise Unreadable(mark.line + 1 if mark is not None else 1, f"this is no YAML: {said}") from None
    except yaml.YAMLError as error:
        raise Unreadable(1, f"this is no YAML: {error}") from None
    finally:
        loader.dispose()


class _Builder:
    def __init__(self, loader: Any, lines: dict[FieldPath, int]) -> None:
        self._loader = loader
        self._lines = lines
        self._count = 0

    def build(self, node: Any, path: FieldPath) -> Any:
        self._count += 1
        if self._count > _MOST_VALUES:
            raise Unreadable(node.start_mark.line + 1, f"it has more than {_MOST_VALUES} values")
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return self._scalar(node)

    def _mapping(self, node: Any, path: FieldPath) -> dict[str, Any]:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            self._loader.flatten_mapping(node)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise Unreadable(line, "a key must be a text")
            key = cast("str", key_node.value)
            if key in result:
                raise Unreadable(line, f"the key {key!r} is given twice")
            self._lines[(*path, key)] = line
            result[key] = self.build(value_node, (*path, key))
        return result

    def _scalar(self, node: Any) -> Any:
        text = node.value
        if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and ":" in text:
            return text
        try:
            value = self._loader.construct_object(node)
        except (ValueError, yaml.constructor.ConstructorError) as error:
            raise Unreadable(node.start_mark.line + 1, f"{text!r} cannot be read: {error}") from None
        if value is not None and not isinstance(value, str | int | float | bool):
            raise Unreadable(node.start_mark.line + 1, f"{text!r} is nothing that JSON knows")
        return value
