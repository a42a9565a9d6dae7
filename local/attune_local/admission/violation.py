"""One thing that is wrong with an object, and where it is."""

from collections.abc import Iterable
from dataclasses import dataclass

#: Where a value is inside a document: keys and indexes from its root.
FieldPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that breaks a rule. ``message`` follows the field's name and a colon."""

    path: FieldPath
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message


def dotted(path: FieldPath) -> str:
    """A field's path as Kubernetes writes it: ``spec.triggerTypes[0].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def sentence(violations: Iterable[Violation]) -> str:
    """All violations in one line."""
    return "; ".join(map(str, violations))
