"""What becomes of a report: who sends it, what it says, whether the sensor may, and whether it is stored.

Works on requests and not on FastAPI's parameters: these two calls are by far the busiest, and are answered without FastAPI's
machinery around them (:data:`attune_api.events.ingest.routes.FAST_PATH`).
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi.responses import Response
from msgspec import Meta
from starlette.types import Receive, Scope

from attune_api.events.ingest import reports, spans
from attune_api.events.ingest.payloads import Payload
from attune_api.events.ingest.quotas import whole_seconds
from attune_api.events.ingest.sql import Outcome, Status
from attune_api.events.ingest.writer import EventWriter, OverloadedError, StorageUnavailableError
from attune_api.identity.callers import SensorCaller
from attune_api.identity.errors import insufficient_scope, repeated_authorization
from attune_api.rules.bindings import Refused
from attune_api.rules.check import NotKnownYetError
from attune_api.services import Services
from attune_api.web.answers import json_answer
from attune_api.web.bodies import check_headers
from attune_api.web.problems import ProblemError, unavailable
from attune_contract.events import MAX_BATCH_EVENTS, EventReport

Row = spans.Row


class Deferral(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a namespace that is over its quota, and the seconds after which it may come again."""

    id: str
    reason: str
    wait: float


#: An event of a batch: the row to be stored, or why it is none.
Item = Row | reports.Refusal | Deferral

_Seq = Annotated[int, Meta(description="Its place in the order in which events were stored.", examples=[4711])]


class EventBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Several events at once."""

    events: Annotated[list[EventReport], Meta(max_length=MAX_BATCH_EVENTS)]


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an event that is in the database."""

    id: uuid.UUID
    status: Annotated[
        Literal["stored", "duplicate"],
        Meta(description="duplicate: it was there before, and stays as it was.", examples=["stored"]),
    ]
    seq: _Seq


class StoredAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to one event."""

    data: Stored


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event of a batch."""

    id: Annotated[str | None, Meta(description="Its id; null when it could not be read.")]
    status: Annotated[
        Literal["stored", "duplicate", "refused", "deferred"],
        Meta(
            description="deferred: its namespace is over its quota, and the event is to be sent again; only with ?defer=true.",
            examples=["stored"],
        ),
    ]
    seq: _Seq | msgspec.UnsetType = msgspec.UNSET
    reason: (
        Annotated[
            str,
            Meta(description="Why it was refused, or deferred. Sending a refused one again unchanged would not help."),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    retry_after: (
        Annotated[float, Meta(description="Seconds after which a deferred event may be sent again.")]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to a batch: one result per event, in their order."""

    data: list[Result]


async def answer_event(services: Services, scope: Scope, receive: Receive) -> Response:
    """Answer a request to store one event.

    Raises:
        ProblemError: it is not stored.
    """
    sensor, encoding = _enter(services, scope)
    with services.bodies.hold() as held:
        row, payload = _read_one(services, await services.bodies.read(held, receive, encoding=encoding), sensor)
        _within_quotas(services, (row["rule_namespace"],))
        refused = None if payload is None else (await _check_payloads(services, [payload]))[0]
        if refused is None:
            (refused,) = await _check(services, [row], sensor)
        if refused is not None:
            services.metrics.events[Status.REFUSED].inc()
            raise ProblemError(_STATUS.get(refused.kind, 403), refused.reason, kind=refused.kind)
        services.quotas.charge({row["rule_namespace"]: 1})
        (outcome,) = await _store(services, [row])
    if outcome.seq is None:
        kind = "event-conflict" if outcome.conflict else "event-refused"
        raise ProblemError(409 if outcome.conflict else 422, outcome.reason or "", kind=kind)
    stored = Stored(id=row["id"], status=_known(outcome), seq=outcome.seq)
    return json_answer(StoredAnswer(data=stored), status=201 if outcome.status is Status.STORED else 200)


async def answer_batch(services: Services, scope: Scope, receive: Receive) -> Response:
    """Answer a request to store several events.

    Raises:
        ProblemError: none of them was looked at, or what became of them is not known; send all of them again.
    """
    sensor, encoding = _enter(services, scope)
    with services.bodies.hold() as held:
        body = await services.bodies.read(held, receive, encoding=encoding)
        items, payloads = _read_batch(services, body, sensor)
        del body
        if services.quotas.active:
            for place in _defer(services, items, allowed=scope["query_string"] == b"defer=true"):
                payloads.pop(place, None)
        if payloads:
            refusals = await _check_payloads(services, list(payloads.values()))
            for place, refusal in zip(payloads, refusals, strict=True):
                row = items[place]
                if refusal is not None and isinstance(row, dict):
                    items[place] = reports.Refusal(id=str(row["id"]), reason=refusal.reason)
        rows = [item for item in items if isinstance(item, dict)]
        verdicts = await _check(services, rows, sensor)
        good = [row for row, refused in zip(rows, verdicts, strict=True) if refused is None]
        if services.quotas.active:
            services.quotas.charge(Counter(row["rule_namespace"] for row in good))
        outcomes = iter(await _store(services, good))
    refusals_made = len(items) - len(good) - sum(isinstance(item, Deferral) for item in items)
    if refusals_made:
        services.metrics.events[Status.REFUSED].inc(refusals_made)
    checked = iter(verdicts)
    return json_answer(BatchAnswer(data=[_result(item, checked, outcomes) for item in items]))


_STATUS: Final = {"rule-mismatch": 422, "invalid-payload": 422}


def _row(
    services: Services, report: EventReport, *, sensor_ref: str, received_at: datetime
) -> tuple[Row, Payload | None]:
    """The row of a report, and its payload if there is a schema to check it by."""
    row = reports.as_row(report, sensor_ref=sensor_ref, received_at=received_at)
    schema = services.payloads.schema_of(sensor_ref=sensor_ref, trigger_type=report.trigger_type)
    if schema is None:
        return row, None
    return row, Payload(schema, report.trigger_type, row["payload"])


async def _check_payloads(services: Services, payloads: Sequence[Payload]) -> Sequence[Refused | None]:
    """Why events are refused for their payloads; None for those that fit."""
    problems = await services.payloads.check(payloads)
    return [
        None
        if problem is None
        else Refused("invalid-payload", f"The payload does not fit the schema of {payload.trigger_type}: {problem}.")
        for payload, problem in zip(payloads, problems, strict=True)
    ]


def _enter(services: Services, scope: Scope) -> tuple[SensorCaller, str]:
    """Who is calling, and how the body is encoded. Of another header that is there twice, the first counts."""
    authorization = content_type = content_encoding = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            if authorization is not None:
                raise repeated_authorization()
            authorization = value.decode("latin-1")
        elif name == b"content-type":
            content_type = content_type or value.decode("latin-1")
        elif name == b"content-encoding":
            content_encoding = content_encoding or value.decode("latin-1")
    sensor = services.access.sensor(authorization)
    return sensor, check_headers(content_type=content_type, content_encoding=content_encoding)


def _read_one(services: Services, body: bytes, sensor: SensorCaller) -> tuple[Row, Payload | None]:
    try:
        report = reports.read_report(body)
    except reports.NotJsonError as error:
        raise ProblemError(400, str(error), kind="invalid-json") from None
    except reports.InvalidReportError as error:
        raise ProblemError(422, str(error), kind="invalid-event") from None
    if report.trigger_type not in sensor.trigger_types:
        raise insufficient_scope(
            _not_allowed(report.trigger_type, sensor),
            kind="trigger-type-not-allowed",
            members={"trigger_type": report.trigger_type, "allowed": sorted(sensor.trigger_types)},
        )
    return _row(services, report, sensor_ref=str(sensor.claims.sensor), received_at=datetime.now(UTC))


def _read_batch(services: Services, body: bytes, sensor: SensorCaller) -> tuple[list[Item], dict[int, Payload]]:
    """The rows to be stored, or why they are not; and by their places the payloads that a schema has to check.

    What was read of the body is gone when this returns: decoded, a megabyte can be thirty.
    """
    try:
        batch = reports.read_batch(body)
    except reports.NotJsonError as error:
        raise ProblemError(400, str(error), kind="invalid-json") from None
    except reports.TooManyEventsError as error:
        raise ProblemError(413, str(error), kind="too-many-events", members={"limit": MAX_BATCH_EVENTS}) from None
    except reports.InvalidReportError as error:
        raise ProblemError(422, str(error), kind="invalid-batch") from None
    sensor_ref, now = str(sensor.claims.sensor), datetime.now(UTC)
    items: list[Item] = []
    payloads: dict[int, Payload] = {}
    for item in batch:
        if isinstance(item, reports.Refusal):
            items.append(item)
        elif item.trigger_type not in sensor.trigger_types:
            items.append(reports.Refusal(id=str(item.id), reason=_not_allowed(item.trigger_type, sensor)))
        else:
            row, payload = _row(services, item, sensor_ref=sensor_ref, received_at=now)
            if payload is not None:
                payloads[len(items)] = payload
            items.append(row)
    return items, payloads


async def _check(services: Services, rows: Sequence[Row], sensor: SensorCaller) -> Sequence[Refused | None]:
    """Whether the sensor serves the events' rules."""
    check = services.rule_check
    if check is None:
        return [None] * len(rows)
    try:
        return await check.check(rows, sensor=sensor.claims.sensor)
    except NotKnownYetError:
        raise unavailable(
            "Whether the sensor serves one of the events' rules cannot be found out now; send this again.",
            kind="rules-not-known",
            retry_after=2,
        ) from None


def _within_quotas(services: Services, namespaces: Iterable[str]) -> None:
    """Refuse a request as a whole if one of its namespaces is over its quota.

    Raises:
        ProblemError: it is; the one that has to wait longest is named.
    """
    quotas = services.quotas
    wait, namespace = max(((quotas.wait(each), each) for each in namespaces), default=(0.0, ""))
    if wait <= 0:
        return
    services.metrics.deferred(namespace, 1)
    raise ProblemError(
        429,
        f"Send this again later: {quotas.reason(namespace)}.",
        kind="quota-exceeded",
        headers={"Retry-After": str(whole_seconds(wait))},
        members={"quota": "eventsPerSecond", "namespace": namespace, "limit": quotas.limit(namespace)},
    )


def _defer(services: Services, items: list[Item], *, allowed: bool) -> set[int]:
    """Put deferrals in the places of events whose namespaces are over their quotas; returns these places.

    Before anything else is done for such an event, since what it costs is what the quota is for. All events of a namespace
    have the same fate, so that those of a rule stay in order.

    Raises:
        ProblemError: there are such events, and the sender does not know deferrals.
    """
    quotas = services.quotas
    counts = Counter(item["rule_namespace"] for item in items if isinstance(item, dict))
    if not allowed:
        _within_quotas(services, counts)
        return set()
    waits = {namespace: wait for namespace in counts if (wait := quotas.wait(namespace)) > 0}
    if not waits:
        return set()
    places: set[int] = set()
    for place, item in enumerate(items):
        if isinstance(item, dict) and (namespace := item["rule_namespace"]) in waits:
            items[place] = Deferral(id=str(item["id"]), reason=quotas.reason(namespace), wait=waits[namespace])
            places.add(place)
    for namespace in waits:
        services.metrics.deferred(namespace, counts[namespace])
    return places


def _not_allowed(trigger_type: str, sensor: SensorCaller) -> str:
    allowed = ", ".join(sorted(sensor.trigger_types)) or "none"
    return f"The token may not report {trigger_type!r}; it allows {allowed}."


def _result(item: Item, checked: Any, outcomes: Any) -> Result:
    if isinstance(item, reports.Refusal):
        return Result(id=item.id, status="refused", reason=item.reason)
    if isinstance(item, Deferral):
        return Result(id=item.id, status="deferred", reason=item.reason, retry_after=round(item.wait, 3))
    refused: Refused | None = next(checked)
    if refused is not None:
        return Result(id=str(item["id"]), status="refused", reason=refused.reason)
    outcome: Outcome = next(outcomes)
    if outcome.seq is None:
        return Result(id=str(item["id"]), status="refused", reason=outcome.reason or "")
    return Result(id=str(item["id"]), status=_known(outcome), seq=outcome.seq)


def _known(outcome: Outcome) -> Literal["stored", "duplicate"]:
    """What an event in the database is called in answers."""
    return "stored" if outcome.status is Status.STORED else "duplicate"


async def _store(services: Services, rows: Sequence[Row]) -> Sequence[Outcome]:
    if not services.tracer.enabled:
        return await _written(services.writer, rows)
    begun = spans.begin(services.tracer, rows)
    try:
        outcomes = await _written(services.writer, rows)
    except BaseException as error:
        spans.fail(begun, error)
        raise
    spans.end(begun, outcomes)
    return outcomes


async def _written(writer: EventWriter, rows: Sequence[Row]) -> Sequence[Outcome]:
    try:
        return await writer.store(rows)
    except OverloadedError:
        raise unavailable("Too many events are waiting to be stored; send this again.", kind="overloaded") from None
    except StorageUnavailableError:
        raise unavailable(
            "The database did not take this; send it again.", kind="storage-unavailable", retry_after=2
        ) from None
