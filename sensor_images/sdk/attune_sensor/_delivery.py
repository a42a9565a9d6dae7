"""Posts batches of events, and accounts for each event."""

import asyncio
import collections
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from attune_contract.messages import OVER_QUOTA
from attune_contract.tracing import trace_id_of
from attune_sensor._api_client import Accepted, EventResult, Outcome, RequestRefused, Unavailable
from attune_sensor._confirmations import Disposition, PendingConfirmation, confirm
from attune_sensor._held_back import Deferred
from attune_sensor._metrics import Metrics
from attune_sensor._outcomes import Outcomes


class _Reported(msgspec.Struct, frozen=True, gc=False):
    """An event as far as the log names it. What the API refuses need not be what the contract allows."""

    id: str
    trigger_type: str
    rule_uid: str
    rule_namespace: str
    rule_name: str
    occurred_at: datetime
    traceparent: str = ""


class _OfNamespace(msgspec.Struct, frozen=True, gc=False):
    rule_namespace: str


class _OfRule(msgspec.Struct, frozen=True, gc=False):
    rule_uid: str


_RULES: Final = msgspec.json.Decoder(list[_OfRule])
_NAMESPACE: Final = msgspec.json.Decoder(_OfNamespace)
_DECODER: Final = msgspec.json.Decoder(_Reported)
_DEFERRED: Final = "deferred"
#: The longest wait that the API may ask for (seconds); longer ones are cut.
_LONGEST_WAIT: Final = 300.0
_DISPOSITIONS: Final = {"stored": Disposition.STORED, "duplicate": Disposition.DUPLICATE}


@dataclass(frozen=True, slots=True)
class Delivered:
    """What remains to be delivered, and why; and what the API deferred, by namespace."""

    rest: list[bytes]
    failure: Unavailable | None
    deferred: dict[str, Deferred]


class Poster(Protocol):
    """What posts events (:class:`attune_sensor._api_client.EventsApi`)."""

    async def post(self, events: Sequence[bytes]) -> Outcome:
        """Post events, each given as its JSON."""


class Delivery:
    """Batches of events on their way to the API.

    Args:
        api: what posts them.
        metrics: where they are counted.
        log: a structlog logger.
        each: whether each event is logged with its rule and its id (at the level DEBUG).
        outcomes: told what becomes of each event.
    """

    def __init__(
        self, *, api: Poster, metrics: Metrics, log: Any, each: bool = False, outcomes: Outcomes | None = None
    ) -> None:
        self._outcomes = outcomes
        self._each = each
        self._api = api
        self._metrics = metrics
        self._log = log

    async def deliver(self, records: list[bytes]) -> Delivered:
        """Post records. A batch that is refused is halved until the event that causes it is alone."""
        deferred: dict[str, Deferred] = {}
        parts = collections.deque([records] if records else [])
        while parts:
            part = parts[0]
            outcome = await self._api.post(part)
            match outcome:
                case Accepted(results):
                    self._account(*_without_deferred(part, results, deferred))
                    parts.popleft()
                case RequestRefused(reason) if len(part) == 1:
                    self._account(part, [EventResult("refused", reason=reason)])
                    parts.popleft()
                case RequestRefused():
                    parts.popleft()
                    half = len(part) // 2
                    parts.appendleft(part[half:])
                    parts.appendleft(part[:half])
                case Unavailable():
                    return Delivered([record for rest in parts for record in rest], outcome, deferred)
        return Delivered([], None, deferred)

    def _account(self, records: Sequence[bytes], results: Sequence[EventResult]) -> None:
        if not records:
            return
        # This is for each event that there is, so what is usual goes by the batch.
        statuses = [result.status for result in results]
        numbers = {status: statuses.count(status) for status in _DISPOSITIONS}
        numbers["refused"] = len(results) - sum(numbers.values())
        for status, number in numbers.items():
            if number:
                self._metrics.events.labels(status).inc(number)
        if self._each:
            self._log_each(records, results)
        # In a moment: the next request leaves before the reporters go on.
        asyncio.get_running_loop().call_soon(_confirm, records, results)
        if self._outcomes is not None:
            _tell(self._outcomes, records, results, all_kept=not numbers["refused"])
        if numbers["refused"]:
            self._log_refused(records, results)

    def _log_refused(self, records: Sequence[bytes], results: Sequence[EventResult]) -> None:
        refused: dict[tuple[str, str | None], list[_Reported]] = {}
        for record, result in zip(records, results, strict=True):
            if result.status not in _DISPOSITIONS:
                event = _DECODER.decode(record)
                refused.setdefault((event.rule_uid, result.reason), []).append(event)
        for (rule_uid, reason), events in refused.items():
            first = events[0]
            self._log.warning(
                "events_refused",
                rule=f"{first.rule_namespace}/{first.rule_name}",
                rule_uid=rule_uid,
                trigger_type=first.trigger_type,
                reason=reason,
                events=len(events),
                first_event_id=first.id,
                **_traced(first),
            )

    def _log_each(self, records: Sequence[bytes], results: Sequence[EventResult]) -> None:
        for record, result in zip(records, results, strict=True):
            event = _DECODER.decode(record)
            self._log.debug(
                "event_delivered",
                rule=f"{event.rule_namespace}/{event.rule_name}",
                rule_uid=event.rule_uid,
                event_id=event.id,
                occurred_at=event.occurred_at.isoformat(),
                result=result.status,
                **_traced(event),
            )


def _traced(event: _Reported) -> dict[str, str]:
    """The trace that an event belongs to, for the log."""
    trace_id = trace_id_of(event.traceparent)
    return {"trace_id": trace_id} if trace_id else {}


def _without_deferred(
    records: list[bytes], results: list[EventResult], deferred: dict[str, Deferred]
) -> tuple[list[bytes], list[EventResult]]:
    """The records that the API has dealt with, and its results; what it deferred is put into ``deferred``."""
    if all(result.status != _DEFERRED for result in results):
        return records, results
    dealt: list[tuple[bytes, EventResult]] = []
    for record, result in zip(records, results, strict=True):
        if result.status != _DEFERRED:
            dealt.append((record, result))
            continue
        namespace = _NAMESPACE.decode(record).rule_namespace
        if namespace not in deferred:
            reason = result.reason or f"the namespace {namespace} {OVER_QUOTA}"
            deferred[namespace] = Deferred([], min(result.retry_after or 0.0, _LONGEST_WAIT), reason)
        deferred[namespace].records.append(record)
    return [record for record, _ in dealt], [result for _, result in dealt]


def _confirm(records: Sequence[bytes], results: Sequence[EventResult]) -> None:
    for record, result in zip(records, results, strict=True):
        if isinstance(record, PendingConfirmation):
            confirm(record, _DISPOSITIONS.get(result.status, Disposition.REFUSED), result.reason)


def _tell(outcomes: Outcomes, records: Sequence[bytes], results: Sequence[EventResult], *, all_kept: bool) -> None:
    uids = [event.rule_uid for event in _RULES.decode(b"[%b]" % b",".join(records))]
    if all_kept:
        outcomes.passed(*uids)
        return
    for uid, result in zip(uids, results, strict=True):
        if result.status in _DISPOSITIONS:
            outcomes.passed(uid)
        else:
            outcomes.refused(uid, result.reason or "the API gave no reason")
