"""What is wrong with a program that nevertheless works, as a sentence for its rule's author. Pure."""

from collections.abc import Sequence
from typing import Final

#: What did not happen again for so long (seconds) is no longer mentioned.
_FORGOTTEN_AFTER: Final = 300.0
#: The sentence changes at most this often (seconds).
_REPEATED_AFTER: Final = 30.0
#: A record that did not end for so long (seconds) is mentioned.
_UNENDED_AFTER: Final = 10.0
#: A program that ran so long (seconds) without a word is mentioned: it may wait for what it is there for, or for ever.
_SILENT_AFTER: Final = 4.0
#: When so many records were read and none was wanted, that is mentioned.
_UNWANTED: Final = 3


class ProgramWarnings:
    """Floods, lines without an end, ends with status 0, silence, output that nobody wants. ``now`` is in seconds, monotonic.

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
        self._started = float("inf")
        self._printed = False
        self._unwanted = 0
        self._wanted = False
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

    def started(self, *, now: float) -> None:
        """It was started, for the first time or again."""
        self._started = now

    def printed(self) -> None:
        """Something came."""
        self._printed = True

    def read(self, *, wanted: bool) -> None:
        """A record was understood, and the Sensor's ``when`` or ``pattern`` wants it or does not."""
        self._wanted = self._wanted or wanted
        self._unwanted += not wanted

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
        if not self._printed and now - self._started >= _SILENT_AFTER:
            sentences.append("Its program has printed nothing so far.")
        if not self._wanted and self._unwanted >= _UNWANTED:
            sentences.append(
                "Nothing that its program printed so far was wanted by the Sensor's spec.stdio (when, pattern)."
            )
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
