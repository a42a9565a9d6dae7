"""What is wrong with a program that nevertheless works, as a sentence for its rule's author. Pure."""

from collections.abc import Sequence
from typing import Final

#: What did not happen again for so long (seconds) is no longer mentioned.
_FORGOTTEN_AFTER: Final = 300.0
#: The sentence changes at most this often (seconds).
_REPEATED_AFTER: Final = 30.0
#: A record that did not end for so long (seconds) is mentioned.
_UNENDED_AFTER: Final = 10.0


class ProgramWarnings:
    """Floods, lines without an end, and ends with status 0. ``now`` is in seconds, monotonic, everywhere.

    Args:
        hints: sentences about the program itself, which hold as long as it runs.
    """

    def __init__(self, hints: Sequence[str] = ()) -> None:
        self._hints = tuple(hints)
        self._held_up_at = float("-inf")
        self._ended = ""
        self._ended_at = float("-inf")
        self._unended = 0
        self._unended_since = float("-inf")
        self._sent = ""
        self._sent_at = float("-inf")

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

    def text(self, *, now: float) -> str:
        """What is to be said now; empty when nothing is."""
        sentences = []
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
