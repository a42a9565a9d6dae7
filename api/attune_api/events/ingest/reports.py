"""Reading what sensors post: strict about everything that is stored, silent about fields it does not know.

Fields of newer versions are ignored, so that an older API does not refuse (and so lose) a newer sensor's events.
"""

import operator
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from attune_contract.events import MAX_BATCH_EVENTS, EventReport
from attune_contract.tracing import read_trace

#: How deep objects and lists may be nested in a payload, the payload itself included.
MAX_PAYLOAD_DEPTH: Final = 32
#: Years in UTC in which events can occur.
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2199


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why one event of a batch cannot be taken. ``id`` is what it says of itself, if that much can be read."""

    id: str | None
    reason: str


class InvalidReportError(ValueError):
    """A body that is not what it should be; the text says what and where."""


class NotJsonError(InvalidReportError):
    """A body that is not even JSON."""


class TooManyEventsError(InvalidReportError):
    """A batch with more events than one may have."""


class _Batch(msgspec.Struct, frozen=True, kw_only=True):
    events: list[EventReport]


#: What an event is of: nearly all events of a batch are of the same few.
_SOURCE: Final = ("trigger_type", "rule_uid", "rule_namespace", "rule_name")
_source_of: Final = operator.attrgetter(*_SOURCE)
#: An event as :class:`EventReport`, but for the patterns of its source: searching for four of them takes two thirds of the
#: time that it takes to read an event.
_LooseReport: Any = msgspec.defstruct(
    "_LooseReport",
    [
        (field.name, str if field.name in _SOURCE else field.type, *(() if field.required else (field.default,)))
        for field in msgspec.structs.fields(EventReport)
    ],
    frozen=True,
    kw_only=True,
    gc=False,
)


class _LooseBatch(msgspec.Struct, frozen=True, kw_only=True):
    events: list[_LooseReport]


class _RawBatch(msgspec.Struct, frozen=True, kw_only=True):
    events: list[msgspec.Raw]


class _IdOnly(msgspec.Struct, frozen=True, kw_only=True):
    id: Any = None


_REPORT: Final = msgspec.json.Decoder(EventReport)
_BATCH: Final = msgspec.json.Decoder(_Batch)
_LOOSE_BATCH: Final = msgspec.json.Decoder(_LooseBatch)
_RAW_BATCH: Final = msgspec.json.Decoder(_RawBatch)
_ENCODER: Final = msgspec.json.Encoder()
_ID: Final = msgspec.json.Decoder(_IdOnly)


def read_report(body: bytes) -> EventReport:
    """Read one event.

    Raises:
        NotJsonError: the body is not JSON text in UTF-8.
        InvalidReportError: it is, but not an event; the text says what is wrong and where.
    """
    try:
        report = _REPORT.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidReportError(_sentence(error)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotJsonError(f"The body is not JSON text in UTF-8: {error}.") from None
    except RecursionError:
        raise InvalidReportError(_TOO_DEEP) from None
    if fault := find_fault(report, may_hold_nul=b"\\u0000" in body):
        raise InvalidReportError(fault)
    return report


def read_batch(body: bytes) -> Sequence[EventReport | Refusal]:
    """Read ``{"events": […]}``. One bad event does not spoil the others: it becomes a refusal in its place.

    Raises:
        NotJsonError: the body is not JSON text in UTF-8.
        TooManyEventsError: there are more than :data:`attune_contract.events.MAX_BATCH_EVENTS`.
        InvalidReportError: it is no object with a list ``events``.
    """
    may_hold_nul = b"\\u0000" in body
    try:
        events: Sequence[EventReport | Refusal] = _read_all(body)
    except (msgspec.ValidationError, RecursionError):
        events = _read_one_by_one(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotJsonError(f"The body is not JSON text in UTF-8: {error}.") from None
    _check_size(events)
    return [_checked(event, may_hold_nul) for event in events]


#: Sources that fit their patterns.
_good_sources: set[tuple[str, ...]] = set()
_MOST_SOURCES: Final = 8192


def _read_all(body: bytes) -> list[EventReport]:
    """The events of a batch without a bad one."""
    loose: list[EventReport] = _LOOSE_BATCH.decode(body).events
    sources = set(map(_source_of, loose))
    if sources <= _good_sources:
        return loose
    events = _BATCH.decode(body).events
    if len(_good_sources) > _MOST_SOURCES:
        _good_sources.clear()
    _good_sources.update(sources)
    return events


def _checked(event: EventReport | Refusal, may_hold_nul: bool) -> EventReport | Refusal:
    if isinstance(event, Refusal):
        return event
    fault = find_fault(event, may_hold_nul=may_hold_nul)
    return Refusal(id=str(event.id), reason=fault) if fault else event


def _check_size(events: Sequence[object]) -> None:
    if len(events) > MAX_BATCH_EVENTS:
        raise TooManyEventsError(f"The batch has {len(events)} events; send at most {MAX_BATCH_EVENTS} at a time.")


def _read_one_by_one(body: bytes) -> list[EventReport | Refusal]:
    try:
        raw = _RAW_BATCH.decode(body).events
    except msgspec.ValidationError as error:
        raise InvalidReportError(f'{_sentence(error)} The body of a batch is {{"events": [...]}}.') from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotJsonError(f"The body is not JSON text in UTF-8: {error}.") from None
    except RecursionError:
        raise InvalidReportError(_TOO_DEEP) from None
    _check_size(raw)
    return [_read_or_refuse(item) for item in raw]


def _read_or_refuse(item: msgspec.Raw) -> EventReport | Refusal:
    try:
        return _REPORT.decode(item)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        reason = _TOO_DEEP if isinstance(error, RecursionError) else _sentence(error)
    try:
        said = _ID.decode(item).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        said = None
    return Refusal(id=said[:64] if isinstance(said, str) else None, reason=reason)


_TOO_DEEP: Final = f"The payload is nested deeper than {MAX_PAYLOAD_DEPTH} levels."


def _sentence(error: Exception) -> str:
    """What msgspec says, which names the place as JSONPath (``$.rule_uid``), as a sentence."""
    text = str(error).replace("`", "'")
    return f"{text}."


def find_fault(report: EventReport, *, may_hold_nul: bool) -> str | None:
    """What the types cannot say: a time of this age, a payload that both databases can keep.

    Args:
        report: the event as read.
        may_hold_nul: whether the body has a NUL escape anywhere; most have none, and need not be searched for it.

    Returns:
        A sentence that says what is wrong and where, or None.
    """
    if not _FIRST_YEAR < report.occurred_at.year < _LAST_YEAR and (fault := _wrong_year(report.occurred_at)):
        return fault
    if not may_hold_nul and _is_flat(report.payload):
        return None
    level: list[Any] = [report.payload]
    for _ in range(MAX_PAYLOAD_DEPTH):
        below: list[Any] = []
        for container in level:
            if isinstance(container, dict):
                if may_hold_nul and any("\0" in key for key in container):
                    return _NUL
                values: Any = container.values()
            else:
                values = container
            for value in values:
                if isinstance(value, dict | list):
                    below.append(value)
                elif may_hold_nul and isinstance(value, str) and "\0" in value:
                    return _NUL
        if not below:
            return None
        level = below
    return _TOO_DEEP


def _is_flat(payload: dict[str, Any]) -> bool:
    """Whether nothing in the payload's values holds anything but plain values, as in most payloads."""
    for value in payload.values():
        kind = type(value)
        if kind is dict or kind is list:
            for inner in value.values() if kind is dict else value:
                if type(inner) is dict or type(inner) is list:
                    return False
    return True


def _wrong_year(time: datetime) -> str | None:
    """What is wrong with the year; it is judged in UTC, in which the time is stored."""
    try:
        year = time.astimezone(UTC).year
    except OverflowError:
        year = time.year
    if _FIRST_YEAR <= year <= _LAST_YEAR:
        return None
    return f"occurred_at is in the year {year} (UTC); it must be from {_FIRST_YEAR} to {_LAST_YEAR}."


_NUL: Final = "The payload holds a NUL character (\\u0000), which PostgreSQL cannot store; leave it out or encode it."


def as_row(report: EventReport, *, sensor_ref: str, received_at: datetime) -> dict[str, Any]:
    """The row of an event as it is to be stored. The payload is JSON again: as objects it could take thirty times the room."""
    row = msgspec.structs.asdict(report)
    row["occurred_at"] = report.occurred_at.astimezone(UTC)
    row["payload"] = msgspec.Raw(_ENCODER.encode(report.payload))
    row["sensor_ref"] = sensor_ref
    row["received_at"] = received_at
    if report.traceparent or report.tracestate:
        row["traceparent"], row["tracestate"] = read_trace(report.traceparent, report.tracestate)
    return row
