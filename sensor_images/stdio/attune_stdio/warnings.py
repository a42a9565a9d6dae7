"""What is wrong with a program that nevertheless works, as a sentence for its rule's author. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: What did not happen again for so long (seconds) is no longer mentioned.
_FORGOTTEN_AFTER: Final = 300.0
#: The sentence changes at most this often (seconds).
_REPEATED_AFTER: Final = 30.0
_SHOWN: Final = 120
#: So many records must be refused, and none taken, for a program to count as useless.
_USELESS: Final = 3
#: A record that did not end for so long (seconds) is mentioned.
_UNENDED_AFTER: Final = 10.0


@dataclass(slots=True)
class _BadLines:
    number: int
    last: str
    at: float


class ProgramWarnings:
    """Lines that were no events, floods, and ends with status 0. ``now`` is in seconds, monotonic, everywhere.

    Args:
        hints: sentences about the program itself, which hold as long as it runs.
    """

    def __init__(self, hints: Sequence[str] = ()) -> None:
        self._hints = tuple(hints)
        self._bad = _BadLines(0, "", float("-inf"))
        self._refused_in_a_row = 0
        self._taken = False
        self._held_up_at = float("-inf")
        self._ended = ""
        self._ended_at = float("-inf")
        self._unended = 0
        self._unended_since = float("-inf")
        self._sent = ""
        self._sent_at = float("-inf")

    def bad_line(self, why: str, text: bytes, *, now: float) -> None:
        """A line was not taken."""
        shown = text[:_SHOWN].decode("utf-8", "replace")
        number = 0 if now - self._bad.at >= _FORGOTTEN_AFTER else self._bad.number
        self._bad = _BadLines(number + 1, f"{why}: {shown!r}", now)
        self._refused_in_a_row += 1

    def good_line(self) -> None:
        """A line was taken."""
        self._taken = True
        self._refused_in_a_row = 0

    def held_up(self, *, now: float) -> bool:
        """The program was faster than it may be; returns whether that was not so just before."""
        first = now - self._held_up_at >= _FORGOTTEN_AFTER
        self._held_up_at = now
        return first

    def ended_well(self, *, ran: float, words: str, now: float) -> None:
        """It ended with status 0, and is started again."""
        said = f" It said last: {words}" if words else ""
        self._ended = f"It ended with status 0 after {ran:.1f} s and was started again.{said}"
        self._ended_at = now

    def waiting(self, number: int, *, now: float) -> None:
        """So many bytes of a record have come without its end."""
        if not number:
            self._unended = 0
        elif not self._unended:
            self._unended_since = now
        self._unended = number

    @property
    def useless(self) -> str | None:
        """Why nothing that the program prints can be used; None when something could."""
        if self._taken or self._refused_in_a_row < _USELESS:
            return None
        return (
            f"Nothing that the program prints can be used: {self._refused_in_a_row} records were refused and none was taken; "
            f"the last one: {self._bad.last}."
        )

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
        if self._unended and now - self._unended_since >= _UNENDED_AFTER:
            sentences.append(f"{self._unended} bytes of its output wait for the end of their line.")
        if now - self._held_up_at < _FORGOTTEN_AFTER:
            sentences.append("It writes more lines a second than it may, and is made to wait.")
        if now - self._ended_at < _FORGOTTEN_AFTER:
            sentences.append(self._ended)
        return " ".join([*sentences, *self._hints])

    def changed_text(self, *, now: float) -> str | None:
        """The text when it is another one than was sent, and that is not too soon; else None. It then counts as sent."""
        text = self.text(now=now)
        if text == self._sent or (self._sent and text and now - self._sent_at < _REPEATED_AFTER):
            return None
        self._sent, self._sent_at = text, now
        return text
