"""What has to be written so that the rule stream matches Kubernetes (docs/architecture.md, "A Rule's way").

The stream is a projection, never a second truth. Two guards keep a stale operator from damaging it:

- each write carries the sequence that the subject was last seen with, so it fails if somebody else wrote since;
- what somebody else wrote is changed only by an operator that knows better: it has a newer generation of the Rule, or it
  has listed everything from Kubernetes after it saw that message.

A tombstone carries the last state that was known, has a TTL and rolls its subject up.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from attune_contract.messages import InvalidMessageError, RuleEventType, RuleState, decode_rule
from attune_operator.rules.entry import StreamEntry


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """What the stream should have of a Rule. ``body`` is ``state`` encoded."""

    subject: str
    state: RuleState
    body: bytes


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """One message to publish: on ``subject``, only if its last message still has ``expected_sequence`` (0: none)."""

    subject: str
    event_type: RuleEventType
    body: bytes
    generation: int
    expected_sequence: int

    @property
    def tombstone(self) -> bool:
        """Whether it says that the rule has left the subject."""
        return self.event_type is RuleEventType.DELETED


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do for one rule.

    ``writes`` are in the order in which they must be sent: the old subject gets its tombstone before the new one is written,
    so that no two sensors run the rule. ``contested`` says that something on the stream is not ours to change until
    Kubernetes was listed again; while that is an old subject, no new one is written.
    """

    writes: tuple[Write, ...] = ()
    contested: bool = False


NOTHING: Final = Plan()


def plan(
    *,
    desired: Desired | None,
    present: Sequence[StreamEntry],
    listed: int,
    generation: int | None,
    confirmed_gone: bool = False,
) -> Plan:
    """Compare what the stream should have of a rule with what it has.

    Args:
        desired: what it should have; None: nothing (the Rule is gone, or not accepted).
        present: the messages on the stream for this rule.
        listed: when the latest complete list from Kubernetes began, on the count of ``StreamEntry.seen``.
        generation: the Rule's generation as we know it; None: we know no such Rule.
        confirmed_gone: Kubernetes said that the Rule was deleted; a uid never comes back.
    """
    writes: list[Write] = []
    contested = False
    standing: StreamEntry | None = None
    for entry in present:
        if desired is not None and entry.subject == desired.subject:
            standing = entry
        elif not entry.tombstone:
            if confirmed_gone or may_touch(entry, listed=listed, generation=generation):
                writes.append(_tombstone(entry))
            else:
                contested = True
    in_place = standing is not None and not standing.tombstone
    # While an old subject cannot get its tombstone, two sensors would run the rule if the new one was written.
    if desired is not None and not _stands(standing, desired) and (in_place or not contested):
        if standing is None or may_touch(standing, listed=listed, generation=generation):
            writes.append(
                Write(
                    subject=desired.subject,
                    event_type=_event_type(standing, desired.state),
                    body=desired.body,
                    generation=desired.state.generation,
                    expected_sequence=0 if standing is None else standing.sequence,
                )
            )
        else:
            contested = True
    return Plan(writes=tuple(writes), contested=contested) if writes or contested else NOTHING


def _stands(standing: StreamEntry | None, desired: Desired) -> bool:
    return standing is not None and not standing.tombstone and standing.body == desired.body


def may_touch(entry: StreamEntry, *, listed: int, generation: int | None) -> bool:
    """Whether we know better than the writer of the entry."""
    if entry.seen < listed:
        return True
    return generation is not None and not entry.tombstone and generation > entry.generation


def _tombstone(entry: StreamEntry) -> Write:
    return Write(
        subject=entry.subject,
        event_type=RuleEventType.DELETED,
        body=entry.body,
        generation=entry.generation,
        expected_sequence=entry.sequence,
    )


def _event_type(standing: StreamEntry | None, state: RuleState) -> RuleEventType:
    """Return what the new state means to a reader of the subject."""
    if standing is None or standing.tombstone:
        return RuleEventType.CREATED
    try:
        before = decode_rule(standing.body)
    except InvalidMessageError:
        return RuleEventType.UPDATED
    if before.enabled == state.enabled:
        return RuleEventType.UPDATED
    return RuleEventType.ENABLED if state.enabled else RuleEventType.DISABLED
