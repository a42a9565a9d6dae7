"""What becomes of a rule's occurrences: whether events get through, or are refused, and what to tell its author then. Pure.

Whatever prevents an event after something occurred is a refusal: the API does not take the payload, a request's signature
is wrong, a filter cannot be evaluated, a line is no JSON. A rule that runs in this way and has no events looks like one
for which nothing happens, so its sensor says so in the rule's ack (docs/sensor-protocol.md, "When nothing gets through").
What a rule's filter leaves out is no refusal. As long as it left out everything, the ack has a remark all the same: the
filter may never be true.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from attune_contract.messages import PARTLY_REFUSED

#: Of so many of the latest occurrences the refused ones count. When none of them was refused, all is well again.
WINDOW: Final = 20
#: After so many refusals in a row nothing gets through, also when something did before …
_MANY: Final = 8
#: … or after these few, when nothing got through for so long (seconds).
_FEW: Final = 3
_LONG: Final = 60.0
#: When so much was left out by what the rule asks for, and nothing was ever stored, that is worth a remark.
_LEFT_OUT: Final = 3
#: After so many refusals in a row of what anybody may have sent, when nothing got through.
_STRAYS: Final = 5
_LONGEST_REASON: Final = 400
#: Seconds after which a rule no longer says that its events have had to wait. It would come and go otherwise.
_LINGERS: Final = 30.0
#: Seconds between two acks of a rule at least; and between two that differ only in a number or in the last reason.
_PAUSE: Final = 1.0
_REWORDED: Final = 30.0
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is to be said of a rule of which something was refused, or everything left out.

    Attributes:
        failing: nothing gets through.
        number: refusals since the first one.
        what: the things that are refused, in the plural.
        why: the last reason.
        since: when the first of them was refused.
        left_out: nothing was refused: the rule does not ask for them.
        until: nothing was refused: events wait, because their namespace is over its quota. Until then (monotonic seconds)
            this holds, if it is not heard of again.
    """

    failing: bool
    number: int
    what: str
    why: str
    since: datetime
    left_out: bool = False
    until: float | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        """A sentence for the rule's author."""
        since = self.since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if self.until is not None:
            return f"{PARTLY_REFUSED}: events have had to wait since {since}, because {self.why}"
        if self.left_out:
            return f"No event yet: {self.number} {self.what} left out since {since}, because {self.why}"
        head = "Nothing gets through" if self.failing else PARTLY_REFUSED
        many = f"1 {self.what.removesuffix('s')}" if self.number == 1 else f"{self.number} {self.what}"
        return f"{head}: {many} refused since {since}; the last reason: {self.why}"


@dataclass(frozen=True, slots=True)
class Told:
    """What was said last of a rule, and when (seconds, monotonic)."""

    standing: Standing | None
    at: float


def due(standing: Standing | None, told: Told | None, *, now: float) -> float | None:
    """In how many seconds a standing has to be said; None if what was said last will do.

    That all fails, or no longer does, is said within a second. Numbers are said again when they have doubled, and other
    reasons, at a pace that tens of thousands of rules can have at once.
    """
    before = None if told is None else told.standing
    if (standing is None) != (before is None) or (standing and before and standing.failing != before.failing):
        return 0.0 if told is None else max(0.0, told.at + _PAUSE - now)
    if standing is None or before is None or told is None:
        return None
    if standing.number < 2 * before.number and standing.why == before.why:
        return None
    return max(0.0, told.at + _REWORDED - now)


@dataclass(slots=True)
class _Tally:
    passed: int = 0  # in a row, since the last refusal
    passed_at: float = float("-inf")
    refused: int = 0  # in a row, since the last one that got through, strays left out
    strays: int = 0  # in a row, since the last one that got through
    window: deque[bool] | None = None  # None: nothing was refused
    tolerated: int = 0
    number: int = 0
    what: str = ""
    why: str = ""
    since: datetime = _NEVER
    left_out: int = 0  # as long as nothing passed
    waits_until: float = float("-inf")  # its namespace is over its quota
    waits_since: datetime = _NEVER
    waits_why: str = ""


class Outcomes:
    """Counts for each rule what got through and what was refused.

    Args:
        clock: seconds, monotonic.
        now: the wall clock.
    """

    def __init__(self, *, clock: Callable[[], float], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._now = now
        self._tallies: dict[str, _Tally] = {}
        #: Called with a rule's uid whenever its standing may have changed.
        self.on_change: Callable[[str], None] = lambda uid: None

    def begin(self, uid: str) -> None:
        """A rule runs in a new version: what was refused of an old one does not count."""
        self._tallies[uid] = _Tally()

    def forget(self, uid: str) -> None:
        """The rule is gone."""
        self._tallies.pop(uid, None)

    def passed(self, *uids: str) -> None:
        """An event of each of these rules was stored. Of rules that do not run, nothing is counted.

        This is for each event that there is, so it does little for rules of which nothing is refused or left out.
        """
        now = self._clock()
        for uid in uids:
            if (tally := self._tallies.get(uid)) is None:
                continue
            tally.passed += 1
            tally.passed_at = now
            if tally.window is not None or tally.left_out:
                self._passed_again(uid, tally)

    def _passed_again(self, uid: str, tally: _Tally) -> None:
        tally.refused = tally.strays = tally.left_out = 0
        if tally.window is not None:
            tally.window.append(True)
            if all(tally.window):
                tally.window, tally.number = None, 0
        self.on_change(uid)

    def refused(self, uid: str, why: str, *, what: str = "events", tolerated: int = 0, stray: bool = False) -> None:
        """Something that occurred makes no event.

        Args:
            uid: the rule's.
            why: the reason.
            what: the things that are refused, in the plural.
            tolerated: so many refusals do not mean yet that nothing gets through.
            stray: anybody may have caused it, so it takes more of them.
        """
        if (tally := self._tallies.get(uid)) is None:
            return
        if tally.window is None:
            tally.window = deque([True] * min(tally.passed, WINDOW - 1), maxlen=WINDOW)
            tally.since = self._now()
        tally.window.append(False)
        tally.passed = 0
        if stray:
            tally.strays += 1
        else:
            tally.refused += 1
            tally.tolerated = tolerated
        tally.number += 1
        tally.what, tally.why = what, " ".join(why.split())[:_LONGEST_REASON].rstrip(".")
        self.on_change(uid)

    def left_out(self, uid: str, why: str, *, what: str) -> None:
        """Something that occurred makes no event, because the rule does not ask for it. Counts until an event was stored.

        Args:
            uid: the rule's.
            why: the reason, as a clause.
            what: the things that are left out, in the plural.
        """
        tally = self._tallies.get(uid)
        if tally is None or tally.passed_at > float("-inf") or tally.window is not None:
            return
        if not tally.left_out:
            tally.since = self._now()
        tally.left_out += 1
        tally.what, tally.why = what, why
        if tally.left_out >= _LEFT_OUT:
            self.on_change(uid)

    def deferred(self, uid: str, why: str, *, wait: float) -> None:
        """Events of a rule have to wait, because its namespace is over its quota.

        Args:
            uid: the rule's.
            why: the reason, as a clause.
            wait: seconds until the next try.
        """
        if (tally := self._tallies.get(uid)) is None:
            return
        now = self._clock()
        if tally.waits_until <= now:
            tally.waits_since = self._now()
        tally.waits_until = max(tally.waits_until, now + wait + _LINGERS)
        tally.waits_why = " ".join(why.split())[:_LONGEST_REASON].rstrip(".")
        self.on_change(uid)

    def standing(self, uid: str) -> Standing | None:
        """What is to be said of the rule; None if nothing is."""
        tally = self._tallies.get(uid)
        if tally is None:
            return None
        found = self._refusals(tally)
        if (found is None or not found.failing) and self._clock() < tally.waits_until:
            return Standing(
                failing=False,
                number=1,
                what="events",
                why=tally.waits_why,
                since=tally.waits_since,
                until=tally.waits_until,
            )
        return found

    def _refusals(self, tally: _Tally) -> Standing | None:
        if tally.window is None:
            if tally.left_out < _LEFT_OUT:
                return None
            return Standing(
                failing=False, number=tally.left_out, what=tally.what, why=tally.why, since=tally.since, left_out=True
            )
        silent = self._clock() - tally.passed_at
        failing = (
            (not any(tally.window) and tally.refused > tally.tolerated)
            or (not any(tally.window) and tally.refused + tally.strays >= _STRAYS)
            or tally.refused >= _MANY
            or (tally.refused >= _FEW and silent >= _LONG)
        )
        return Standing(failing=failing, number=tally.number, what=tally.what, why=tally.why, since=tally.since)
