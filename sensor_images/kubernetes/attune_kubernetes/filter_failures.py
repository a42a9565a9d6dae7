"""Failed evaluations of one rule's filter, as a sentence for the rule's author. Pure."""

from typing import Final

#: Failures that did not happen again for so long (seconds) are no longer mentioned.
_FORGOTTEN_AFTER: Final = 300.0
#: The sentence changes at most this often (seconds).
_REPEATED_AFTER: Final = 30.0
_LONGEST: Final = 300


class FilterFailures:
    """Counts failures. ``now`` is in seconds, monotonic, everywhere."""

    def __init__(self) -> None:
        self._number = 0
        self._last = ""
        self._at = 0.0
        self._told = ""
        self._told_at = float("-inf")

    def failed(self, why: str, *, now: float) -> None:
        """An evaluation had no result."""
        self._number += 1
        self._last, self._at = why[:_LONGEST], now

    def changed_text(self, *, now: float) -> str | None:
        """What is to be said, when it is not what was said last and was not said just now; else None. Empty: all is well."""
        if self._number and now - self._at >= _FORGOTTEN_AFTER:
            self._number = 0
        text = ""
        if self._number:
            changes = "one change" if self._number == 1 else f"{self._number} changes"
            text = f"The filter could not be evaluated for {changes}, so there was no event; the last reason: {self._last}."
        if text == self._told or (text and now - self._told_at < _REPEATED_AFTER):
            return None
        self._told, self._told_at = text, now
        return text
