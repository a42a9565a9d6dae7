"""Reading the events of several rules in the order of ``seq``, and the states that sensors keep of rules."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, or_, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from attune_api.events.query.filters import EventFilter
from attune_api.events.query.service import PAGE_BYTES, Walk
from attune_api.events.table import newest_seq
from attune_api.storage.tables import METADATA
from attune_contract.events import Event

_STATES: Final = METADATA.tables["rule_states"]


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """Events, oldest first.

    Attributes:
        events: what was found.
        position: the ``seq`` up to which all was looked at.
        newest: the newest ``seq`` there is.
    """

    events: list[Event]
    position: int
    newest: int


class StoredState(msgspec.Struct, frozen=True, kw_only=True):
    """What a sensor remembers of a rule."""

    generation: int
    position: int
    state: bytes


def read_of_rules(connection: Connection, *, namespace: str, rules: Sequence[str], after: int, limit: int) -> Read:
    """The next events of these rules.

    Each rule costs a step in the index (rule_namespace, rule_name, seq) and the events that are taken.

    Args:
        connection: to read with.
        namespace: the rules'.
        rules: their names.
        after: only events with a higher ``seq``.
        limit: events at most.
    """
    newest = newest_seq(connection)
    high = newest + 1
    found: list[Event] = []
    for name in rules:
        walk = Walk(
            connection,
            where=EventFilter(rule_namespace=namespace, rule_name=name),
            order="asc",
            limit=limit,
            budget=limit,
            most_bytes=PAGE_BYTES,
        )
        walked = walk.between(after, high)
        found += walked.events
        if walked.reached is not None:
            # What other rules have behind it comes with the next page.
            high = walked.reached + 1
    taken: list[Event] = []
    size = 0
    for event in sorted((each for each in found if each.seq < high), key=lambda each: each.seq):
        if len(taken) == limit or size >= PAGE_BYTES:
            return Read(events=taken, position=taken[-1].seq, newest=newest)
        taken.append(event)
        size += len(event.payload)
    return Read(events=taken, position=max(high - 1, min(after, newest)), newest=newest)


def load_state(connection: Connection, *, rule_uid: str) -> StoredState | None:
    """The state of a rule, if one is kept."""
    row = connection.execute(
        select(_STATES.c.generation, _STATES.c.position, _STATES.c.state).where(_STATES.c.rule_uid == rule_uid)
    ).one_or_none()
    return None if row is None else StoredState(generation=row.generation, position=row.position, state=row.state)


def save_state(connection: Connection, *, rule_uid: str, state: StoredState, now: datetime) -> bool:
    """Keep a state, unless a newer one is kept; returns whether it is kept now.

    A pod that was replaced, and does not know it yet, so cannot put back what its successor has.

    Args:
        connection: in a transaction.
        rule_uid: the rule's.
        state: what to keep.
        now: the time.
    """
    insert = postgresql_insert(_STATES) if connection.dialect.name == "postgresql" else sqlite_insert(_STATES)
    values = {
        "generation": state.generation,
        "position": state.position,
        "state": state.state,
        "updated_at": now,
    }
    older = or_(
        _STATES.c.generation < state.generation,
        (_STATES.c.generation == state.generation) & (_STATES.c.position <= state.position),
    )
    written = connection.execute(
        insert.values(rule_uid=rule_uid, **values).on_conflict_do_update(
            index_elements=["rule_uid"], set_=values, where=older
        )
    )
    return written.rowcount > 0


def delete_state(connection: Connection, *, rule_uid: str) -> None:
    """Forget the state of a rule."""
    connection.execute(delete(_STATES).where(_STATES.c.rule_uid == rule_uid))


def forget_states(connection: Connection, *, before: datetime) -> int:
    """Forget states that nobody has written since; how many. Sensors write those of rules that they serve each day."""
    return connection.execute(delete(_STATES).where(_STATES.c.updated_at < before)).rowcount
