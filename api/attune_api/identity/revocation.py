"""Which tokens of each sensor are still accepted, as the operator says on the stream ``ATTUNE_IDENTITIES``."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from attune_api.identity.errors import InvalidTokenError
from attune_api.identity.tokens import VerifiedToken
from attune_api.storage.tables import METADATA
from attune_contract.claims import MAX_TTL
from attune_contract.messages import IdentityState

_TABLE: Final = METADATA.tables["sensor_identities"]
_DECODER: Final = msgspec.json.Decoder(IdentityState)


def accepted_types(token: VerifiedToken, *, state: IdentityState | None) -> frozenset[str]:
    """The trigger types that a verified token may report now.

    Args:
        token: verified, in time.
        state: what the operator last said of the sensor; None when it never said anything.

    Raises:
        InvalidTokenError: the token is revoked.
    """
    types = frozenset(token.claims.trigger_types)
    if state is None:
        return types
    if state.deleted:
        raise InvalidTokenError("The token's sensor was deleted.", reason="deleted")
    if token.claims.subject != state.uid:
        raise InvalidTokenError("The token is of an earlier sensor of this name.", reason="other_uid")
    if state.not_before is not None and token.issued_at < state.not_before:
        raise InvalidTokenError("The token was revoked; a newer one was issued.", reason="revoked")
    return types & frozenset(state.trigger_types)


class IdentityStates:
    """The states in memory, for every request to look at. :func:`save_states` keeps them over restarts."""

    def __init__(self, states: Mapping[str, IdentityState] | None = None) -> None:
        self._states: dict[str, IdentityState] = dict(states or {})
        self.heard = False  #: whether the stream was ever read to its end since the start

    def __len__(self) -> int:
        return len(self._states)

    def get(self, sensor_ref: str) -> IdentityState | None:
        """What was last said of a sensor."""
        return self._states.get(sensor_ref)

    def after(self, sensor_ref: str = "") -> Iterator[IdentityState]:
        """Living sensors behind this ref, by their refs."""
        for ref in sorted(ref for ref in self._states if ref > sensor_ref):
            if not (state := self._states[ref]).deleted:
                yield state

    def apply(self, state: IdentityState) -> bool:
        """Put a state in force at once; whether it says anything new."""
        if self._states.get(state.sensor_ref) == state:
            return False
        self._states[state.sensor_ref] = state
        return True

    def forget(self, sensor_refs: Iterable[str]) -> None:
        """Drop the states of these sensors."""
        for ref in sensor_refs:
            self._states.pop(ref, None)


def load_states(connection: Connection) -> dict[str, IdentityState]:
    """All states that were kept, by the sensor's ref."""
    rows = connection.execute(select(_TABLE.c.sensor_ref, _TABLE.c.state))
    return {row.sensor_ref: _DECODER.decode(row.state) for row in rows}


def save_states(connection: Connection, *, states: Iterable[IdentityState], now: datetime) -> None:
    """Keep the last state of each sensor."""
    for state in states:
        insert = postgresql_insert(_TABLE) if connection.dialect.name == "postgresql" else sqlite_insert(_TABLE)
        values = {"state": msgspec.to_builtins(state), "updated_at": now}
        statement = insert.values(sensor_ref=state.sensor_ref, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=["sensor_ref"], set_=values))


def forget_deleted(connection: Connection, *, now: datetime) -> list[str]:
    """Forget sensors that were deleted longer ago than any token lives, so that the table does not grow for ever.

    Returns:
        their refs.
    """
    before = now - MAX_TTL - timedelta(hours=1)
    old = connection.execute(select(_TABLE.c.sensor_ref, _TABLE.c.state).where(_TABLE.c.updated_at < before))
    gone = [row.sensor_ref for row in old if _DECODER.decode(row.state).deleted]
    for start in range(0, len(gone), 500):
        connection.execute(delete(_TABLE).where(_TABLE.c.sensor_ref.in_(gone[start : start + 500])))
    return gone
