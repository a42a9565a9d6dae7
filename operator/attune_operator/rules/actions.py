"""What the stream of actions should have of a Rule, and what has to be written for it. Pure.

Like the rule stream it is a projection (:mod:`~attune_operator.rules.projection`), but simpler: a Rule has one subject for ever,
which does not depend on who serves it.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec
from pydantic import ValidationError

from attune_contract.actions import RuleActions, actions_subject, decode_actions, encode
from attune_contract.messages import InvalidMessageError
from attune_contract.resources.actions import Action
from attune_operator.rules.entry import StreamEntry
from attune_operator.rules.projection import may_touch
from attune_operator.rules.records import RuleRecord
from attune_operator.rules.validation import actions_too_large

_DIGEST: Final = 16


class Said(NamedTuple):
    """One message to publish, only if the subject's last one still has ``expected_sequence`` (0: none)."""

    subject: str
    body: bytes
    generation: int
    expected_sequence: int
    tombstone: bool = False


class SayPlan(NamedTuple):
    """What to do for one Rule. ``contested`` as in :class:`~attune_operator.rules.projection.Plan`."""

    message: Said | None = None
    contested: bool = False


NOTHING: Final = SayPlan()


def digest(body: bytes) -> bytes:
    """What is remembered of a message instead of its body."""
    return blake2b(body, digest_size=_DIGEST).digest()


def message_of(rule: RuleRecord) -> RuleActions:
    """What the runner must know of a Rule.

    An action that our model cannot read is left as it is: the runner says what is wrong with it, and nothing is lost.
    """
    about = msgspec.json.decode(rule.actions)
    return RuleActions(
        uid=rule.uid,
        namespace=rule.namespace,
        name=rule.name,
        generation=rule.generation,
        enabled=rule.enabled,
        labels=about.get("labels") or {},
        annotations=about.get("annotations") or {},
        data=about.get("data") or {},
        when=about.get("when"),
        service_account_name=about.get("serviceAccountName"),
        order=about.get("order") or "Concurrent",
        actions=tuple(_with_defaults(action) for action in about.get("actions") or ()),
    )


def _with_defaults(action: dict[str, Any]) -> dict[str, Any]:
    try:
        return Action.model_validate(action).as_message()
    except ValidationError:
        return action


@lru_cache(maxsize=256)  # each Rule is looked at several times in a row
def body_of(rule: RuleRecord) -> bytes:
    """The message's bytes; equal for equal Rules."""
    return encode(message_of(rule))


def entry_of(*, subject: str, sequence: int, body: bytes, seen: int) -> StreamEntry:
    """Read a message of the stream. Something that cannot be read has generation -1, and is overwritten."""
    try:
        message = decode_actions(body)
        generation, deleted = message.generation, message.deleted
    except InvalidMessageError:
        generation, deleted = -1, False
    return StreamEntry(
        subject=subject,
        sequence=sequence,
        generation=generation,
        tombstone=deleted,
        body=b"" if deleted else digest(body),
        seen=seen,
    )


def plan_actions(
    *, rule: RuleRecord | None, uid: str, present: StreamEntry | None, listed: int, confirmed_gone: bool = False
) -> SayPlan:
    """Compare what the stream should have of a Rule with what it has.

    Args:
        rule: the Rule; None: we know no such Rule.
        uid: its uid.
        present: the last message on its subject; None: there is none.
        listed: when the latest complete list from Kubernetes began, on the count of ``StreamEntry.seen``.
        confirmed_gone: Kubernetes said that the Rule was deleted; a uid never comes back.
    """
    if rule is None:
        if present is None or present.tombstone:
            return NOTHING
        if not confirmed_gone and not may_touch(present, listed=listed, generation=None):
            return SayPlan(contested=True)
        return SayPlan(_tombstone(uid, present))
    if actions_too_large(len(rule.actions)) is not None:
        return NOTHING  # NATS would refuse it; the condition Accepted says so
    body = body_of(rule)
    if present is not None:
        if not present.tombstone and present.body == digest(body):
            return NOTHING
        if not may_touch(present, listed=listed, generation=rule.generation):
            return SayPlan(contested=True)
    return SayPlan(
        Said(
            subject=actions_subject(rule.namespace, rule.uid),
            body=body,
            generation=rule.generation,
            expected_sequence=0 if present is None else present.sequence,
        )
    )


def _tombstone(uid: str, present: StreamEntry) -> Said:
    namespace = present.subject.split(".")[2]
    gone = RuleActions(uid=uid, namespace=namespace, name="", generation=present.generation, deleted=True)
    return Said(
        subject=present.subject,
        body=encode(gone),
        generation=present.generation,
        expected_sequence=present.sequence,
        tombstone=True,
    )
