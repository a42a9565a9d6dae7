"""The tables. ``attune_api.migrations`` says how they came to be; a test holds the two together."""

import uuid
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, Index, LargeBinary, MetaData, Text, Uuid
from sqlmodel import Field, SQLModel

from attune_api.storage.types import RawJson, Sequence, UtcTime

#: Constraints have names, so that a migration can change them on both databases.
METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Table(SQLModel):
    """What all tables have in common."""

    metadata = METADATA


class Event(Table, table=True):
    """An event that was accepted.

    ``seq`` grows in the order of *commits*, on PostgreSQL too (see ``events.store``), so a follower that has read up to
    one number never has to look back. It is never given twice, even after the newest rows were deleted.

    ``id`` is unique within a rule, not in the table: a sensor chooses the ids of its events, and must not be able to take
    those of another sensor's rules. The index begins with the id, so that it also finds events by their id alone.
    """

    __tablename__ = "events"
    __table_args__ = (
        Index(None, "id", "rule_uid", unique=True),
        Index(None, "rule_uid", "seq"),
        Index(None, "rule_namespace", "seq"),
        Index(None, "rule_namespace", "rule_name", "seq"),
        Index(None, "trigger_type", "seq"),
        Index(None, "sensor_ref", "seq"),
        {"sqlite_autoincrement": True},
    )

    seq: int | None = Field(default=None, sa_column=Column(Sequence, primary_key=True, autoincrement=True))
    id: uuid.UUID = Field(sa_column=Column(Uuid(), nullable=False))
    trigger_type: str = Field(sa_column=Column(Text(), nullable=False))
    rule_uid: str = Field(sa_column=Column(Text(), nullable=False))
    rule_namespace: str = Field(sa_column=Column(Text(), nullable=False))
    rule_name: str = Field(sa_column=Column(Text(), nullable=False))
    sensor_ref: str = Field(sa_column=Column(Text(), nullable=False))
    occurred_at: datetime = Field(sa_column=Column(UtcTime(), nullable=False))
    received_at: datetime = Field(sa_column=Column(UtcTime(), nullable=False))
    payload: Any = Field(sa_column=Column(RawJson, nullable=False))
    traceparent: str = Field(sa_column=Column(Text(), nullable=False, server_default=""))
    tracestate: str = Field(sa_column=Column(Text(), nullable=False, server_default=""))


class EventBlock(Table, table=True):
    """When the events of a block of ``seq`` occurred: the earliest and the latest (see ``events.blocks``)."""

    __tablename__ = "event_blocks"

    block: int = Field(sa_column=Column(Sequence, primary_key=True, autoincrement=False))
    first_occurred: datetime = Field(sa_column=Column(UtcTime(), nullable=False))
    last_occurred: datetime = Field(sa_column=Column(UtcTime(), nullable=False))


class Run(Table, table=True):
    """What became of one action for one event: the last word of :class:`attune_contract.actions.Run`.

    ``seq`` is the place of the last *change* in the order of commits: a run that changes moves to the end. So a follower that
    has read up to one number misses no run's newest state (see ``runs.sql``).
    """

    __tablename__ = "runs"
    __table_args__ = (
        Index(None, "seq", unique=True),
        Index(None, "rule_uid", "seq"),
        Index(None, "rule_namespace", "seq"),
        Index(None, "rule_namespace", "rule_name", "seq"),
        Index(None, "state", "seq"),
        Index(None, "event_id"),
    )

    id: uuid.UUID = Field(sa_column=Column(Uuid(), primary_key=True))
    seq: int = Field(sa_column=Column(Sequence, nullable=False))
    revision: int = Field(sa_column=Column(Sequence, nullable=False))
    event_id: uuid.UUID = Field(sa_column=Column(Uuid(), nullable=False))
    event_seq: int = Field(sa_column=Column(Sequence, nullable=False))
    rule_uid: str = Field(sa_column=Column(Text(), nullable=False))
    rule_namespace: str = Field(sa_column=Column(Text(), nullable=False))
    rule_name: str = Field(sa_column=Column(Text(), nullable=False))
    rule_generation: int = Field(sa_column=Column(Sequence, nullable=False))
    action: str = Field(sa_column=Column(Text(), nullable=False))
    kind: str = Field(sa_column=Column(Text(), nullable=False))
    state: str = Field(sa_column=Column(Text(), nullable=False))
    reason: str = Field(sa_column=Column(Text(), nullable=False))
    message: str = Field(sa_column=Column(Text(), nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcTime(), nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcTime(), nullable=False))
    stored_at: datetime = Field(sa_column=Column(UtcTime(), nullable=False))
    next_attempt_at: datetime | None = Field(sa_column=Column(UtcTime(), nullable=True))
    attempts_made: int = Field(sa_column=Column(Sequence, nullable=False))
    attempts: Any = Field(sa_column=Column(RawJson, nullable=False))
    request: str = Field(sa_column=Column(Text(), nullable=False))
    result: Any = Field(sa_column=Column(RawJson, nullable=False))


class RunSummary(Table, table=True):
    """What became of a rule's runs, in numbers that are kept with each change of a run instead of counted when asked for.

    The numbers are of the runs that are in the table. ``seq`` is the place of the rule's last change.
    """

    __tablename__ = "run_summaries"
    __table_args__ = (Index(None, "seq"),)

    rule_uid: str = Field(sa_column=Column(Text(), primary_key=True))
    rule_namespace: str = Field(sa_column=Column(Text(), nullable=False))
    rule_name: str = Field(sa_column=Column(Text(), nullable=False))
    seq: int = Field(sa_column=Column(Sequence, nullable=False))
    succeeded: int = Field(sa_column=Column(Sequence, nullable=False))
    failed: int = Field(sa_column=Column(Sequence, nullable=False))
    skipped: int = Field(sa_column=Column(Sequence, nullable=False))
    waiting: int = Field(sa_column=Column(Sequence, nullable=False))
    last_run_at: datetime | None = Field(sa_column=Column(UtcTime(), nullable=True))
    last_success_at: datetime | None = Field(sa_column=Column(UtcTime(), nullable=True))
    last_failure_at: datetime | None = Field(sa_column=Column(UtcTime(), nullable=True))
    last_failure_run: uuid.UUID | None = Field(sa_column=Column(Uuid(), nullable=True))
    last_failure_action: str = Field(sa_column=Column(Text(), nullable=False))
    last_failure_state: str = Field(sa_column=Column(Text(), nullable=False))
    last_failure_reason: str = Field(sa_column=Column(Text(), nullable=False))
    last_failure_message: str = Field(sa_column=Column(Text(), nullable=False))


class RunNumbers(Table, table=True):
    """The last ``seq`` that was given to a run. The transaction that draws numbers holds the row until it is visible."""

    __tablename__ = "run_numbers"

    name: str = Field(sa_column=Column(Text(), primary_key=True))
    last: int = Field(sa_column=Column(Sequence, nullable=False))


class Outbox(Table, table=True):
    """How far events were passed on: everything up to ``published`` (a ``seq``) has been acknowledged.

    ``epoch`` is that of the lease of the replica that publishes. One that held it before does not move it any more.
    """

    __tablename__ = "outbox"

    name: str = Field(sa_column=Column(Text(), primary_key=True))
    published: int = Field(sa_column=Column(Sequence, nullable=False))
    epoch: int = Field(sa_column=Column(Sequence, nullable=False, server_default="0"))


class Lease(Table, table=True):
    """Who does what only one replica may do, and until when unless it renews (see ``storage.leases``). Empty on SQLite."""

    __tablename__ = "leases"

    name: str = Field(sa_column=Column(Text(), primary_key=True))
    holder: str = Field(sa_column=Column(Text(), nullable=False))
    epoch: int = Field(sa_column=Column(Sequence, nullable=False))
    expires_at: datetime = Field(sa_column=Column(UtcTime(), nullable=False))


class RuleState(Table, table=True):
    """What a sensor remembers of a rule about events: a value of its own, which holds all events up to ``position``."""

    __tablename__ = "rule_states"
    __table_args__ = (Index(None, "updated_at"),)

    rule_uid: str = Field(sa_column=Column(Text(), primary_key=True))
    generation: int = Field(sa_column=Column(Sequence, nullable=False))
    position: int = Field(sa_column=Column(Sequence, nullable=False))
    state: bytes = Field(sa_column=Column(LargeBinary(), nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcTime(), nullable=False))


class Identity(Table, table=True):
    """Identities that this API minted tokens for, and their attributes."""

    __tablename__ = "identities"

    id: uuid.UUID = Field(sa_column=Column(Uuid(), primary_key=True))
    login: str = Field(sa_column=Column(Text(), nullable=False, unique=True))
    attributes: Any = Field(sa_column=Column(RawJson, nullable=False))
    created_at: datetime = Field(sa_column=Column(UtcTime(), nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcTime(), nullable=False))


class SensorIdentity(Table, table=True):
    """The last :class:`attune_contract.messages.IdentityState` of each sensor, so that it holds over restarts."""

    __tablename__ = "sensor_identities"

    sensor_ref: str = Field(sa_column=Column(Text(), primary_key=True))
    state: Any = Field(sa_column=Column(RawJson, nullable=False))
    updated_at: datetime = Field(sa_column=Column(UtcTime(), nullable=False))
