"""Kubernetes Events: what happened to an object, for ``kubectl describe``.

Recording never waits; one task writes. Equal Events within ten minutes become one with a count, as Kubernetes' own
components do it. Each object has a budget, so that one that flaps cannot flood the API server. A full queue drops.
"""

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

import structlog

from attune_contract import names
from attune_operator.resources.kinds import EVENT, Object
from attune_operator.runtime import metrics
from attune_operator.runtime.client import Client, ClusterError
from attune_operator.runtime.conditions import kubernetes_time

_log = structlog.stdlib.get_logger(__name__)

_COMPONENT: Final = "attune-operator"
_QUEUE: Final = 1000
_REMEMBERED: Final = 4096
_AGGREGATE_FOR: Final = 600.0
#: As client-go's EventSourceObjectSpamFilter: this many at once for one object, then one in so many seconds.
_BURST: Final = 25
_REFILL: Final = 300.0
_MESSAGE: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReference:
    """The object that a Kubernetes Event is about."""

    kind: str
    namespace: str
    name: str
    uid: str
    api_version: str = names.API_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectEvent:
    """Something that happened to an object, for ``kubectl describe``.

    ``reason`` is CamelCase (``TokenRenewed``). ``action`` is what was done or tried (``Renew``). ``message`` is a sentence
    of at most 1 KiB without any secret.
    """

    regarding: ObjectReference
    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"
    action: str = "Reconcile"


class EventSink(Protocol):
    """Accepts Kubernetes Events."""

    def record(self, event: ObjectEvent) -> None:
        """Accept an Event. Never blocks and never raises. Equal events are aggregated, and floods are cut."""


@dataclass(slots=True)
class _Budget:
    tokens: float
    at: float

    def take(self, now: float) -> bool:
        self.tokens = min(_BURST, self.tokens + (now - self.at) / _REFILL)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(slots=True)
class _Series:
    name: str
    count: int
    since: float
    first: datetime = field(default_factory=lambda: datetime.now(UTC))


def event_body(event: ObjectEvent, *, name: str, first: datetime, last: datetime, count: int, instance: str) -> Object:
    """Build the Event object (core v1). Events of cluster-scoped objects live in ``default``, as Kubernetes requires."""
    regarding = event.regarding
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": regarding.namespace or "default"},
        "involvedObject": {
            "apiVersion": regarding.api_version,
            "kind": regarding.kind,
            "namespace": regarding.namespace,
            "name": regarding.name,
            "uid": regarding.uid,
        },
        "type": event.type,
        "reason": event.reason,
        "action": event.action,
        "message": event.message if len(event.message) <= _MESSAGE else event.message[: _MESSAGE - 1] + "…",
        "count": count,
        "firstTimestamp": kubernetes_time(first),
        "lastTimestamp": kubernetes_time(last),
        "source": {"component": _COMPONENT},
        "reportingComponent": _COMPONENT,
        "reportingInstance": instance[:128],
    }


class EventRecorder:
    """An :class:`~attune_operator.runtime.events.EventSink` that writes to Kubernetes."""

    def __init__(
        self,
        client: Client,
        *,
        instance: str,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._instance = instance
        self._monotonic = monotonic
        self._now = now
        self._queue: asyncio.Queue[ObjectEvent] = asyncio.Queue(_QUEUE)
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()
        self._series: OrderedDict[ObjectEvent, _Series] = OrderedDict()

    def record(self, event: ObjectEvent) -> None:
        """Accept an Event. It is dropped and counted if there are too many."""
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            metrics.EVENTS_DROPPED.inc()

    async def run(self) -> None:
        """Write Events until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._write(event)
            except ClusterError as error:
                # Events are best effort: one that cannot be written is dropped.
                metrics.EVENTS_DROPPED.inc()
                _log.info("event_not_written", reason=event.reason, error=str(error))

    async def _write(self, event: ObjectEvent) -> None:
        now = self._monotonic()
        budget = self._budgets.setdefault(event.regarding.uid, _Budget(_BURST, now))
        self._budgets.move_to_end(event.regarding.uid)
        if len(self._budgets) > _REMEMBERED:
            self._budgets.popitem(last=False)
        if not budget.take(now):
            metrics.EVENTS_DROPPED.inc()
            return
        series = self._series.get(event)
        if series is not None and now - series.since < _AGGREGATE_FOR:
            series.count += 1
            patch = {"count": series.count, "lastTimestamp": kubernetes_time(self._now())}
            if await self._client.merge(EVENT, event.regarding.namespace or "default", series.name, patch) is not None:
                return
        first = self._now()
        series = _Series(name=f"{event.regarding.name}.{uuid.uuid4().hex[:16]}", count=1, since=now, first=first)
        self._series[event] = series
        self._series.move_to_end(event)
        if len(self._series) > _REMEMBERED:
            self._series.popitem(last=False)
        body = event_body(event, name=series.name, first=first, last=first, count=1, instance=self._instance)
        await self._client.create(EVENT, body)
