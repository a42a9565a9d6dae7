"""What is read: documents of which every field is either translated or noted, with file and line."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from attune_local.admission.documents import Document, DocumentError, read, split

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is not translated, or not exactly."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field + ': ' if self.field else ''}{self.message}"


class Notes(list[Note]):
    """What is not translated, in the order in which it was found."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A document, and where it stands."""

    file: str
    offset: int
    document: Document

    def line(self, path: Path) -> int:
        """The line of a field, from 1."""
        return self.offset + self.document.line_of(path)


@dataclass(slots=True)
class Section:
    """An object in a document. What is not taken from it is noted by :meth:`close`."""

    origin: Origin
    value: Mapping[str, Any]
    notes: Notes
    path: Path = ()
    _taken: set[str] = field(default_factory=set)

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a field, which is translated by that."""
        self._taken.add(key)
        return self.value.get(key, default)

    def section(self, key: str) -> "Section | None":
        """The object in a field; None when there is none."""
        value = self.take(key)
        if value is not None and not isinstance(value, Mapping):
            self.note("is not an object", key)
            return None
        return None if value is None else self._inside(value, key)

    def sections(self, key: str) -> "Iterator[Section]":
        """The objects of a list."""
        for index, value in enumerate(self.take(key) or ()):
            if isinstance(value, Mapping):
                yield self._inside(value, key, index)
            else:
                self.note("is not an object", key, index)

    def named(self, key: str) -> "Iterator[tuple[str, Section]]":
        """The objects in an object of names."""
        inside = self.section(key)
        for name in inside.value if inside is not None else ():
            assert inside is not None  # noqa: S101 - there is a name in it
            found = inside.section(name)
            if found is not None:
                yield str(name), found

    def _inside(self, value: Mapping[str, Any], *path: str | int) -> "Section":
        return Section(self.origin, value, self.notes, (*self.path, *path))

    def note(self, message: str, *path: str | int) -> None:
        """Note something about a field of it."""
        whole = (*self.path, *path)
        shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in whole).removeprefix(".")
        self.notes.append(Note(self.origin.file, self.origin.line(whole), shown, message))

    def close(self, *, why: str = "is not translated") -> None:
        """Note each field that was not taken."""
        for key in self.value:
            if key not in self._taken:
                self.note(why, str(key))


def read_text(text: str, *, file: str, notes: Notes) -> Iterator[Section]:
    """The documents of a file; a ``List`` is as many as it has items.

    Args:
        text: of the file.
        file: its name, for notes.
        notes: what cannot be read is noted there.
    """
    for part in split(text):
        try:
            if part.problem:
                raise DocumentError(1, part.problem)
            document = read(part.text)
        except DocumentError as error:
            notes.append(Note(file, part.offset + error.line, "", f"cannot be read: {error}"))
            continue
        if document is None:
            continue
        origin = Origin(file, part.offset, document)
        if not isinstance(document.value, Mapping):
            notes.append(Note(file, origin.line(()), "", "is not an object"))
            continue
        whole = Section(origin, document.value, notes)
        if document.value.get("kind") == "List":
            yield from whole.sections("items")
        else:
            yield whole
