"""What is wrong with a program that nevertheless works, as a sentence for its rule's author. Pure."""

from dataclasses import dataclass
from typing import Final

#: What did not happen again for so long (seconds) is not told any more.
_FORGOTTEN_AFTER: Final = 300.0
#: A sentence that changes is told no more often than this (seconds).
_REPEATED_AFTER: Final = 30.0
_SHOWN: Final = 120


@dataclass(slots=True)
class _BadLines:
    number: int
    last: str
    at: float


class ProgramWarnings:
    """Lines that were no events, and floods. ``now`` is in seconds, monotonic, everywhere."""

    def __init__(self) -> None:
        self._bad = _BadLines(0, "", float("-inf"))
        self._held_up_at = float("-inf")
        self._sent = ""
        self._sent_at = float("-inf")

    def bad_line(self, why: str, text: bytes, *, now: float) -> None:
        """A line was not taken."""
        shown = text[:_SHOWN].decode("utf-8", "replace")
        number = 0 if now - self._bad.at >= _FORGOTTEN_AFTER else self._bad.number
        self._bad = _BadLines(number + 1, f"{why}: {shown!r}", now)

    def held_up(self, *, now: float) -> bool:
        """The program was quicker than it may be; returns whether that is news."""
        news = now - self._held_up_at >= _FORGOTTEN_AFTER
        self._held_up_at = now
        return news

    def text(self, *, now: float) -> str:
        """What is to be said now; empty when nothing is."""
        sentences = []
        if now - self._bad.at < _FORGOTTEN_AFTER:
            what = (
                "line on its standard output was not"
                if self._bad.number == 1
                else "lines on its standard output were not"
            )
            sentences.append(f"{self._bad.number} {what} taken; the last one: {self._bad.last}.")
        if now - self._held_up_at < _FORGOTTEN_AFTER:
            sentences.append("It writes more lines a second than it may, and is made to wait.")
        return " ".join(sentences)

    def changed_text(self, *, now: float) -> str | None:
        """The text when it is another one than was told, and that is not too soon; else None. It then counts as told."""
        text = self.text(now=now)
        if text == self._sent or (self._sent and text and now - self._sent_at < _REPEATED_AFTER):
            return None
        self._sent, self._sent_at = text, now
        return text
