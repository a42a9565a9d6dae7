"""Reconciles Sensors: takes what the watches see, lists everything now and then, and has each Sensor reconciled.

Observers are called from the handlers, are cheap and never wait. Everything else happens in :meth:`SensorController.run`.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from attune_contract.identity import SensorRef
from attune_contract.names import ConditionType
from attune_kit.backoff import spread
from attune_operator.credentials.identities import IdentityPublisher
from attune_operator.resources.kinds import POD, SENSOR, Kind
from attune_operator.runtime import metrics
from attune_operator.runtime.client import Body, ClusterError, WatchEventType
from attune_operator.runtime.cluster import KubeCluster
from attune_operator.runtime.controller import Controller
from attune_operator.runtime.ownership import Ownership
from attune_operator.runtime.queue import RETRY, PriorityQueue
from attune_operator.sensors.cache import CHILDREN, SELECTOR, SensorCache, owner_of
from attune_operator.sensors.reconcile import Reconciler

_log = structlog.stdlib.get_logger(__name__)

#: Seconds that one reconcile may take; every call within it has a shorter limit of its own.
_TIMEOUT: Final = 120.0
#: So often one Sensor may be reconciled at once, and then so often a second.
_BURST: Final = 50.0
_RATE: Final = 2.0


def sensor_queue() -> PriorityQueue[SensorRef]:
    """The queue of Sensors."""
    return PriorityQueue(burst=_BURST, rate=_RATE)


def sensor_states(cache: SensorCache) -> dict[str, int]:
    """How many Sensors are ready, are not ready, and are not judged yet; for the metric."""
    counts: dict[str, int] = {"True": 0, "False": 0, "Unknown": 0}
    for ref in cache.sensors():
        body: Any = cache.sensor(ref) or {}
        conditions = (body.get("status") or {}).get("conditions") or ()
        found = next((c.get("status") for c in conditions if c.get("type") == ConditionType.READY), "Unknown")
        counts[found if found in counts else "Unknown"] += 1
    return counts


class SensorController(Controller[SensorRef]):
    """All Sensors of the watched namespaces.

    Args:
        queue: the Sensors to reconcile; others enqueue theirs too.
        cache: what was seen of Sensors and their objects.
        cluster: lists.
        reconciler: reconciles one Sensor.
        identities: publishes which tokens are accepted.
        sweep_interval: seconds between complete lists.
        workers: how many Sensors are reconciled at once.
        ownership: whose the namespaces are.
        on_swept: called after each complete list.
        random_: for jitter, from 0 to 1.
        sleep: waits.
    """

    def __init__(
        self,
        *,
        queue: PriorityQueue[SensorRef],
        cache: SensorCache,
        cluster: KubeCluster,
        reconciler: Reconciler,
        identities: IdentityPublisher,
        sweep_interval: float,
        workers: int,
        ownership: Ownership,
        on_swept: Callable[[], None] = lambda: None,
        random_: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        super().__init__("sensors", queue=queue, workers=workers, timeout=_TIMEOUT)
        self._cache = cache
        self._cluster = cluster
        self._reconciler = reconciler
        self._identities = identities
        self._sweep_interval = sweep_interval
        self._ownership = ownership
        self._requested = asyncio.Event()
        self._on_swept = on_swept
        self._random = random_
        self._sleep = sleep

    # -- what is seen

    def observe_sensor(self, kind: WatchEventType, body: Body) -> None:
        """A Sensor was seen, changed or deleted."""
        metadata = body["metadata"]
        ref = SensorRef(metadata["namespace"], metadata["name"])
        if not self._cache.observe(SENSOR, kind, body):
            return
        if kind == "DELETED":
            self._on_deleted(ref, uid=metadata.get("uid", ""))
        else:
            self.queue.enqueue(ref)

    def observe_child(self, what: Kind, kind: WatchEventType, body: Body) -> None:
        """An object or a pod of a Sensor was seen, changed or deleted."""
        ref = owner_of(body)
        if ref is not None and self._cache.observe(what, kind, body):
            self.queue.enqueue(ref)

    def _on_deleted(self, ref: SensorRef, *, uid: str) -> None:
        _log.info("sensor_deleted", sensor=str(ref))
        self._identities.on_deleted(ref, uid=uid)
        self._reconciler.forget(ref)
        self.queue.forget(ref)
        with contextlib.suppress(KeyError):
            metrics.TOKEN_EXPIRY.remove(ref.namespace, ref.name)

    def request_sweep(self) -> None:
        """List everything soon."""
        self._requested.set()

    # -- work

    async def run(self) -> None:
        """List everything, then work until cancelled."""
        await self._first_sweep()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep_for_ever(), name="sensors: sweep")
            tasks.create_task(super().run(), name="sensors: workers")

    async def _first_sweep(self) -> None:
        retries = RETRY.start(chance=self._random)
        while True:
            try:
                await self.sweep()
                return
            except ClusterError as error:
                _log.warning("sweep_failed", error=str(error))
                await self._sleep(retries.next_delay())

    async def _sweep_for_ever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(spread(self._sweep_interval, chance=self._random())):
                    await self._requested.wait()
            self._requested.clear()
            try:
                await self.sweep()
            except ClusterError as error:
                _log.warning("sweep_failed", error=str(error))

    async def sweep(self) -> None:
        """List Sensors and everything that belongs to them, and have each Sensor reconciled.

        Raises:
            ClusterError: a list could not be had; what is known stays as it was.
        """
        began = time.monotonic()
        await self._ownership.refresh()
        # What belongs to Sensors comes first: no reconcile then takes an object for missing that merely was not listed.
        for kind in (*CHILDREN, POD, SENSOR):
            tick = self._cache.begin_list(kind)
            listed = await self._cluster.list_all(kind, labels="" if kind is SENSOR else SELECTOR)
            gone = self._cache.replace(kind, listed, began=tick)
            if kind is SENSOR:
                for body in gone:
                    metadata = body["metadata"]
                    self._on_deleted(SensorRef(metadata["namespace"], metadata["name"]), uid=metadata.get("uid", ""))
        refs = self._cache.sensors()
        self._identities.on_resync({ref: self._cache.uid(ref) for ref in refs})
        self.queue.enqueue_all(refs)
        for ready, count in sensor_states(self._cache).items():
            metrics.SENSORS.labels(ready).set(count)
        metrics.SWEEP_SECONDS.set(time.monotonic() - began)
        metrics.LAST_SWEEP.set_to_current_time()
        _log.debug("swept", sensors=len(refs), seconds=round(time.monotonic() - began, 3))
        self._on_swept()

    async def reconcile(self, key: SensorRef, *, urgent: bool) -> float | None:
        """Reconcile one Sensor."""
        metrics.QUEUED.set(len(self.queue))
        if not self._ownership.known_ours(key.namespace):
            return None
        with metrics.RECONCILE_SECONDS.time():
            requeue_after = await self._reconciler.reconcile(key)
        metrics.RECONCILES.labels("ok").inc()
        return requeue_after

    async def on_error(self, key: SensorRef, error: Exception) -> None:
        """One Sensor that fails must not keep the others from being reconciled."""
        delay = self.queue.failed(key)
        if isinstance(error, ClusterError):
            metrics.RECONCILES.labels("failed").inc()
            _log.warning("reconcile_failed", sensor=str(key), error=str(error), retry_in=round(delay, 2))
        else:
            metrics.RECONCILES.labels("error").inc()
            _log.error("reconcile_error", sensor=str(key), retry_in=round(delay, 2), exc_info=error)
