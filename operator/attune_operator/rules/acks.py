"""The sensors' latest acks.

An ack speaks for the binding and for the rule that its subject names: NATS lets a sensor publish under its own prefix
only, and nothing checks what it writes into the body. Only an ack of the Rule's present binding counts, so a sensor that
acknowledges other sensors' rules has no effect.
"""

import sys
from datetime import UTC, datetime
from typing import Final

from attune_contract import subjects
from attune_contract.messages import InvalidMessageError, decode_ack
from attune_operator.rules.cache import RuleCache
from attune_operator.rules.entry import AckEntry
from attune_operator.runtime.conditions import kubernetes_time

_MAX_MESSAGE: Final = 1024
#: Times before it are nobody's next occurrence, and some are not written as Kubernetes reads them.
_FIRST_YEAR: Final = 1970
#: Unwanted acks of one sensor that are purged one by one.
_MAX_UNWANTED: Final = 100


def parse_ack(*, subject: str, sequence: int, body: bytes, seen: int) -> tuple[str, AckEntry]:
    """Read a message of the ack stream.

    Returns:
        The rule's uid, as the subject names it, and the ack.

    Raises:
        InvalidMessageError: it is not an ack, or is about another rule than its subject.
    """
    try:
        binding, uid = subjects.split_binding(subject)
    except ValueError as error:
        raise InvalidMessageError(str(error)) from error
    ack = decode_ack(body)
    if ack.rule_uid != uid:
        raise InvalidMessageError(f"it is about the rule {ack.rule_uid[:64]!r}, but on the subject of {uid!r}")
    return uid, AckEntry(
        binding=sys.intern(binding),
        generation=ack.generation,
        state=ack.state,
        message=ack.message[:_MAX_MESSAGE],
        sequence=sequence,
        seen=seen,
        next_time=None if ack.next_at is None else _next_time(ack.next_at),
    )


def _next_time(said: datetime) -> str | None:
    """The time as Kubernetes writes it; None if it takes no such time. Sensors may say anything."""
    time = said if said.tzinfo is not None else said.replace(tzinfo=UTC)
    try:
        return kubernetes_time(time) if time.astimezone(UTC).year >= _FIRST_YEAR else None
    except OverflowError:
        return None


class UnwantedAcks:
    """Subjects of the ack stream that hold nothing of use: what cannot be read, and acks of too many unknown Rules.

    They are purged one by one, or all that a sensor wrote at once when they are many: a sensor that fills the stream harms
    itself alone.
    """

    def __init__(self) -> None:
        self._subjects: dict[str, set[str]] = {}

    def add(self, subject: str) -> None:
        """Note a subject. Those of other shapes than a sensor's are left alone."""
        prefix = subject.split(".", 4)[:4]
        if len(prefix) < 4 or prefix[:2] != ["attune", "acks"]:
            return
        found = self._subjects.setdefault(".".join(prefix), set())
        if len(found) <= _MAX_UNWANTED:
            found.add(subject)

    def take(self) -> list[str]:
        """The subjects to be purged, as filters of the stream; they are forgotten here."""
        taken, self._subjects = self._subjects, {}
        return [
            subject
            for prefix, found in sorted(taken.items())
            for subject in ([f"{prefix}.>"] if len(found) > _MAX_UNWANTED else sorted(found))
        ]


def stale_acks(cache: RuleCache) -> list[tuple[str, str]]:
    """Acks that will not be needed: (rule's uid, binding).

    These are acks of Rules that a complete list, begun after the ack came, does not have; and acks of a former binding, one
    more list later, because a Rule may move back and forth.
    """
    found = []
    for entry in cache.entries():
        acceptance = entry.acceptance
        current = acceptance.sensor.token if acceptance is not None and acceptance.sensor is not None else None
        for ack in entry.acks:
            if entry.rule is None:
                if ack.seen < cache.listed:
                    found.append((entry.uid, ack.binding))
            elif ack.binding != current and ack.seen < cache.listed - 1:
                found.append((entry.uid, ack.binding))
    return found
