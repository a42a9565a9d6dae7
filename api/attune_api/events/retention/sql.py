"""Which events go, and deleting them, a chunk at a time."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, exists, func, select

from attune_api.events.table import EVENTS
from attune_api.storage.sweeping import Chunk
from attune_api.storage.tables import METADATA

_OUTBOX: Final = METADATA.tables["outbox"]
#: Events deleted in one transaction, and rules looked at in one.
CHUNK: Final = 500
_RULES: Final = 50
_ABOVE_ALL: Final = 2**63 - 1


def passed_on(connection: Connection, *, outbox: str | None) -> int:
    """The ``seq`` up to which events may go: where the outbox is, if there is one."""
    if outbox is None:
        return _ABOVE_ALL
    return connection.execute(select(_OUTBOX.c.published).where(_OUTBOX.c.name == outbox)).scalar_one_or_none() or 0


def oldest_seq(connection: Connection) -> int | None:
    """The lowest ``seq`` there is."""
    oldest: int | None = connection.execute(select(func.min(EVENTS.c.seq))).scalar_one()
    return oldest


def delete_older(connection: Connection, *, beyond: int, before: datetime, up_to: int) -> Chunk:
    """Delete the oldest events, a chunk at most, but for the newest of each rule.

    Args:
        connection: in a transaction.
        beyond: only those with a higher ``seq``.
        before: only those that were stored earlier.
        up_to: only those up to this ``seq``.
    """
    oldest = connection.execute(
        select(EVENTS.c.seq, EVENTS.c.received_at)
        .where(EVENTS.c.seq > beyond, EVENTS.c.seq <= up_to)
        .order_by(EVENTS.c.seq)
        .limit(CHUNK)
    ).all()
    old = [seq for seq, received_at in oldest if received_at < before]
    if not old:
        return Chunk(deleted=0, place=None)
    newer = EVENTS.alias("newer")
    has_newer = exists().where(newer.c.rule_uid == EVENTS.c.rule_uid, newer.c.seq > EVENTS.c.seq)
    deleted = connection.execute(delete(EVENTS).where(EVENTS.c.seq.in_(old), has_newer)).rowcount
    return Chunk(deleted=deleted, place=old[-1] if len(old) == len(oldest) == CHUNK else None)


def crowded(connection: Connection, *, after: str, most: int) -> tuple[Sequence[tuple[str, int]], str | None]:
    """Rules with more than ``most`` events.

    Args:
        connection: to read with.
        after: only rules behind this uid; a few of those are looked at.
        most: events that each may have.

    Returns:
        their uids, each with the ``seq`` up to which its events are too many; and the uid to go on behind, None at the end.
    """
    found: list[tuple[str, int]] = []
    uid: str | None = after
    for _ in range(_RULES):
        # From one rule to the next in the index (rule_uid, seq), not through all of its events.
        uid = connection.execute(select(func.min(EVENTS.c.rule_uid)).where(EVENTS.c.rule_uid > uid)).scalar_one()
        if uid is None:
            return found, None
        of_rule = (
            select(EVENTS.c.seq).where(EVENTS.c.rule_uid == uid).order_by(EVENTS.c.rule_uid.desc(), EVENTS.c.seq.desc())
        )
        cut = connection.execute(of_rule.offset(most).limit(1)).scalar_one_or_none()
        if cut is not None:
            found.append((uid, cut))
    return found, uid


def crowded_namespaces(
    connection: Connection, *, after: str, most_of: Callable[[str], int]
) -> tuple[Sequence[tuple[str, int]], str | None]:
    """Namespaces with more events than ``most_of`` says; 0 is any number. Otherwise as :func:`crowded`."""
    found: list[tuple[str, int]] = []
    name: str | None = after
    for _ in range(_RULES):
        name = connection.execute(
            select(func.min(EVENTS.c.rule_namespace)).where(EVENTS.c.rule_namespace > name)
        ).scalar_one()
        if name is None:
            return found, None
        if not (most := most_of(name)):
            continue
        of_namespace = (
            select(EVENTS.c.seq)
            .where(EVENTS.c.rule_namespace == name)
            .order_by(EVENTS.c.rule_namespace.desc(), EVENTS.c.seq.desc())
        )
        cut = connection.execute(of_namespace.offset(most).limit(1)).scalar_one_or_none()
        if cut is not None:
            found.append((name, cut))
    return found, name


def delete_of_namespace(connection: Connection, *, name: str, up_to: int) -> int:
    """Delete a namespace's oldest events up to a ``seq``, a chunk at most, but for the newest of each rule; how many."""
    newer = EVENTS.alias("newer")
    has_newer = exists().where(newer.c.rule_uid == EVENTS.c.rule_uid, newer.c.seq > EVENTS.c.seq)
    oldest = (
        select(EVENTS.c.seq)
        .where(EVENTS.c.rule_namespace == name, EVENTS.c.seq <= up_to, has_newer)
        .order_by(EVENTS.c.seq)
        .limit(CHUNK)
    )
    seqs = list(connection.execute(oldest).scalars())
    if not seqs:
        return 0
    return connection.execute(delete(EVENTS).where(EVENTS.c.seq.in_(seqs))).rowcount


def delete_of_rule(connection: Connection, *, uid: str, up_to: int) -> int:
    """Delete a rule's oldest events up to a ``seq``, a chunk at most; how many."""
    oldest = (
        select(EVENTS.c.seq).where(EVENTS.c.rule_uid == uid, EVENTS.c.seq <= up_to).order_by(EVENTS.c.seq).limit(CHUNK)
    )
    seqs = list(connection.execute(oldest).scalars())
    if not seqs:
        return 0
    return connection.execute(delete(EVENTS).where(EVENTS.c.seq.in_(seqs))).rowcount
