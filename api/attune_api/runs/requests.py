"""What callers ask for about runs, and what they are answered."""

import uuid
from datetime import datetime
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from attune_api.web.problems import ProblemError

#: Runs that one request can name, and runs or events that one request looks at.
MOST_IDS: Final = 1000
MOST_AT_ONCE: Final = 500

_T = TypeVar("_T")
_Text = Annotated[str, Meta(max_length=320, pattern="^[^\\x00]*\\Z")]
_Namespace = Annotated[str, Meta(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z", examples=["default"])]
_Name = Annotated[str, Meta(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z", examples=["retry-import"])]
Time_ = Annotated[datetime, Meta(tz=True, examples=["2026-11-23T12:00:00.000000Z"])]
_Limit = Annotated[int, Meta(ge=1, le=MOST_AT_ONCE, description="How many to look at, at most.")]
Cursor_ = Annotated[str, Meta(max_length=200, description="What the last answer gave as next_cursor.")]


class RetryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Runs that are to be done again: those with these ids, or those that a filter finds, never both."""

    ids: Annotated[list[uuid.UUID], Meta(max_length=MOST_IDS, description="These runs.")] = []
    rule_namespace: _Namespace | None = None
    rule_name: _Name | None = None
    action: _Text | None = None
    state: Annotated[
        Literal["Failed", "Skipped"] | None, Meta(description="Only runs that ended so; Failed unless given.")
    ] = None
    reason: _Text | None = None
    updated_after: Time_ | None = None
    updated_before: Time_ | None = None
    limit: _Limit = 100
    cursor: Cursor_ | None = None


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stored events of a rule whose actions are to be done, as the rule is now."""

    rule_namespace: _Namespace
    rule_name: _Name
    occurred_after: Time_
    occurred_before: Time_ | None = None
    action: Annotated[str, Meta(max_length=320, description="Only this action.")] | None = None
    again: Annotated[bool, Meta(description="Also where there is a run of the event and action that has ended.")] = (
        False
    )
    limit: _Limit = 100
    cursor: Cursor_ | None = None


class NotRetried(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is not done again, and why."""

    id: Annotated[uuid.UUID, Meta(description="The run.", examples=["1c9f2f0e-37e9-5d5e-9d2f-3f1b8f8f9a10"])]
    reason: Annotated[
        Literal["NotFound", "Forbidden", "NotEnded", "Succeeded", "EventGone", "EventTooLarge"],
        Meta(description="Why, for programs.", examples=["EventGone"]),
    ]
    message: Annotated[str, Meta(description="Why, as a sentence.", examples=["Its event is no longer stored."])]


class RetryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is queued, and what is not."""

    queued: Annotated[list[uuid.UUID], Meta(description="Runs that wait for the runner now.")]
    refused: list[NotRetried]
    next_cursor: Annotated[
        str | None, Meta(description="Of a filter: give it as cursor to go on; null when all were looked at.")
    ]


class ReplayAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is queued, and what is not."""

    events: Annotated[int, Meta(description="Events that were looked at.")]
    queued: Annotated[list[uuid.UUID], Meta(description="Runs that wait for the runner now.")]
    already_run: Annotated[int, Meta(description="Pairs of event and action that have a run, and are left alone.")]
    refused: list[NotRetried]
    next_cursor: Annotated[str | None, Meta(description="Give it as cursor to go on; null when all were looked at.")]


def read_request(body: bytes, kind: type[_T]) -> _T:
    """Read a body.

    Raises:
        ProblemError: 400 it is not JSON, 422 it is not of this shape.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise ProblemError(422, f"The body is not as it must be: {error}.", kind="invalid-request") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProblemError(400, f"The body is not JSON text in UTF-8: {error}.", kind="invalid-json") from None


def bounded(time: datetime | None) -> datetime | None:
    """A time that a database can be asked for.

    Raises:
        ProblemError: 422, it is at the calendar's ends.
    """
    if time is not None and not 2 <= time.year <= 9998:
        raise ProblemError(422, "Times must be in a year from 2 to 9998.", kind="invalid-request")
    return time
