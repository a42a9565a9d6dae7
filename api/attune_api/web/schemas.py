"""What requests and answers look like, for the documentation.

Events are read and written by msgspec, which is many times faster; these models are what OpenAPI shows of them, and tests
hold the two together.
"""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from attune_contract.events import MAX_BATCH_EVENTS
from attune_contract.resources.common import TRIGGER_TYPE_PATTERN


def example(value: dict[str, Any]) -> ConfigDict:
    """A model's configuration, with an example of the whole."""
    return ConfigDict(json_schema_extra={"examples": [value]})


class Schema(BaseModel):
    """A documented object."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class EventReportSchema(Schema):
    """One event as a sensor reports it."""

    id: UUID = Field(examples=["0f3c2b54-8a83-5f0e-9a9b-0c7a3a4b7d11"])
    """UUIDv5 of the rule's uid and the occurrence: the same occurrence has the same id."""
    trigger_type: Annotated[str, Field(max_length=253, pattern=TRIGGER_TYPE_PATTERN)] = Field(
        examples=["core.intervaltimer"]
    )
    """Canonical name of the trigger type; the token must allow it."""
    rule_uid: str = Field(max_length=64, min_length=1, examples=["7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10"])
    """The Rule's metadata.uid."""
    rule_namespace: str = Field(max_length=63, examples=["default"])
    """The Rule's namespace."""
    rule_name: str = Field(max_length=253, examples=["echo-every-second"])
    """The Rule's name."""
    occurred_at: datetime = Field(examples=["2026-11-23T12:00:00.000000Z"])
    """When it occurred (RFC 3339, with a zone), from 1970 to 2199."""
    payload: dict[str, Any] = Field(examples=[{"scheduled_at": "2026-11-23T12:00:00.000000Z"}])
    """What there is to say about it; nested at most 32 deep, without NUL characters."""


class BatchSchema(Schema):
    """Several events at once."""

    events: Annotated[list[EventReportSchema], Field(max_length=MAX_BATCH_EVENTS)]


class StoredSchema(Schema):
    """What became of an event that is in the database."""

    id: UUID
    status: Literal["stored", "duplicate"] = Field(examples=["stored"])
    """``duplicate``: it was there before, and stays as it was."""
    seq: int = Field(examples=[4711])
    """Its place in the order in which events were stored."""


class StoredAnswer(Schema):
    """Answer to one event."""

    data: StoredSchema


class ResultSchema(Schema):
    """What became of one event of a batch."""

    id: str | None
    """Its id; null when it could not be read."""
    status: Literal["stored", "duplicate", "refused"] = Field(examples=["stored"])
    seq: int | None = None
    reason: str | None = None
    """Why it was refused. Sending it again unchanged would not help."""


class BatchAnswer(Schema):
    """Answer to a batch: one result per event, in their order."""

    data: list[ResultSchema]


class EventSchema(Schema):
    """An event."""

    model_config = example(
        {
            "id": "0f3c2b54-8a83-5f0e-9a9b-0c7a3a4b7d11",
            "seq": 4711,
            "trigger_type": "core.intervaltimer",
            "rule_uid": "7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10",
            "rule_namespace": "default",
            "rule_name": "echo-every-second",
            "sensor_ref": "attune-system/core.timer",
            "occurred_at": "2026-11-23T12:00:00.000000Z",
            "received_at": "2026-11-23T12:00:00.003141Z",
            "payload": {"scheduled_at": "2026-11-23T12:00:00.000000Z"},
        }
    )

    id: UUID
    seq: int
    """Its place in the order in which events were stored: a higher one was never visible before a lower one."""
    trigger_type: str
    rule_uid: str
    rule_namespace: str
    rule_name: str
    sensor_ref: str = Field(examples=["attune-system/core.timer"])
    """Which sensor reported it."""
    occurred_at: str = Field(examples=["2026-11-23T12:00:00.000000Z"])
    """RFC 3339, UTC, microseconds."""
    received_at: str = Field(examples=["2026-11-23T12:00:00.003141Z"])
    """When the API took it."""
    payload: dict[str, Any]


class EventAnswer(Schema):
    """One event."""

    data: EventSchema


class EventPage(Schema):
    """A page of events."""

    data: list[EventSchema]
    next_cursor: str | None
    """Give it as ``cursor`` for the next page; null on the last one, and only there: a page may be short, even empty."""
    resume_cursor: str | None
    """With ``order=asc``: give it as ``cursor``, now or later, for what comes after this page. So a follower polls."""


class CountSchema(Schema):
    """How many events occurred in an interval."""

    at: str = Field(examples=["2026-11-23T12:00:00.000000Z"])
    """When the interval begins."""
    count: int = Field(examples=[3600])


class RuleCountsSchema(Schema):
    """The counts of one rule."""

    model_config = example(
        {
            "rule_uid": "7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10",
            "rule_namespace": "default",
            "rule_name": "echo-every-second",
            "total": 3600,
            "counts": [{"at": "2026-11-23T12:00:00.000000Z", "count": 3600}],
        }
    )

    rule_uid: str
    rule_namespace: str
    rule_name: str
    total: int
    """All of ``counts`` together."""
    counts: list[CountSchema]
    """Oldest first; intervals without events are left out."""


class CountsAnswer(Schema):
    """Counts by rule, those with the most events first."""

    data: list[RuleCountsSchema]
    rules_left_off: int
    """Rules that had events too, and are beyond ``limit``."""
    interval_seconds: int
    occurred_after: str
    """What was counted from, inclusive."""
    occurred_before: str
    """What was counted to, exclusive."""
