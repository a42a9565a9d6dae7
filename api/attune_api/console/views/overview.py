"""The overview: which lines are shown of thousands, and how many there are of each kind."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from attune_api.console.rows import TONES, Line, Tone

#: Lines on one page.
PAGE: Final = 50
NAMES: Final[Mapping[Tone, str]] = {"bad": "Wrong", "wait": "Waiting", "good": "Active", "off": "At rest"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which lines; empty is any.

    Attributes:
        text: words that must all be in the name, namespace, trigger type, sensor or sentence.
        tone: how they are.
        kind: the trigger type.
        sensor: which Sensor serves them.
    """

    text: str = ""
    tone: str = ""
    kind: str = ""
    sensor: str = ""

    def matches(self, line: Line) -> bool:
        """Whether a line is wanted, but for its tone."""
        if (self.kind and line.kind != self.kind) or (self.sensor and line.sensor != self.sensor):
            return False
        if not self.text:
            return True
        hay = f"{line.namespace}/{line.name} {line.kind} {line.sensor} {line.word} {line.sentence}".lower()
        return all(word in hay for word in self.text.lower().split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A page of lines.

    Attributes:
        lines: those on it.
        counts: how many there are of each tone, whatever tone is asked for.
        total: how many there are in all that the other filters leave.
        found: how many there are of the tone that is asked for.
        number: which page it is, from 1.
        pages: how many there are, at least 1.
    """

    lines: Sequence[Line]
    counts: Mapping[str, int]
    total: int
    found: int
    number: int
    pages: int


def shown(lines: Iterable[Line], wanted: Filter, *, number: int = 1, size: int = PAGE) -> Shown:
    """The page of lines that is asked for; the nearest one where there are fewer.

    Args:
        lines: all of them, in their order.
        wanted: which ones.
        number: which page, from 1.
        size: lines on one page.
    """
    matching = [line for line in lines if wanted.matches(line)]
    counted = Counter(line.tone for line in matching)
    found = [line for line in matching if line.tone == wanted.tone] if wanted.tone in TONES else matching
    pages = max(1, -(-len(found) // size))
    number = min(max(1, number), pages)
    return Shown(
        lines=found[(number - 1) * size : number * size],
        counts={tone: counted.get(tone, 0) for tone in TONES},
        total=len(matching),
        found=len(found),
        number=number,
        pages=pages,
    )
