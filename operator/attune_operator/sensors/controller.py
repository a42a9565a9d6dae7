"""Drives the reconciliation of Sensors: takes what the watches see, lists everything now and then, and lets workers work.

Observers are called from the handlers, cost little and never wait. Everything else happens in :meth:`SensorController.run`.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import structlog

from attune_contract.identity import SensorRef
from attune_contract.names import ConditionType
from attune_operator.resources.kinds import POD, SENSOR, Kind
from attune_operator.runtime import metrics
from attune_operator.runtime.client import Body, ClusterError, WatchEventType
from attune_operator.runtime.cluster import KubeCluster
from attune_operator.runtime.queue import WorkQueue, backoff
from attune_operator.sensors.reconcile import Reconciler
from attune_operator.sensors.store import CHILDREN, SELECTOR, Store, owner_of

_log = structlog.stdlib.get_logger(__name__)

#: Seconds that one look may take; every call within it has a shorter limit of its own.
_LOOK: Final = 120.0


def sensor_states(store: Store) -> dict[str, int]:
    """How many Sensors are ready, are not, and are not judged yet; for the metric."""
    counts: dict[str, int] = {"True": 0, "False": 0, "Unknown": 0}
    for ref in store.sensors():
        body: Any = store.sensor(ref) or {}
        conditions = (body.get("status") or {}).get("conditions") or ()
        found = next((c.get("status") for c in conditions if c.get("type") == ConditionType.READY), "Unknown")
        counts[found if found in counts else "Unknown"] += 1
    return counts


class Obituaries(Protocol):
    """Told which Sensors are gone, and which there are."""

    def deceased(self, ref: SensorRef, *, uid: str) -> None:
        """A Sensor was deleted."""

    def census(self, living: dict[SensorRef, str]) -> None:
        """These Sensors exist, with their uids, by a complete list."""


class SensorController:
    """All Sensors of the watched namespaces."""

    def __init__(
        self,
        *,
        cluster: KubeCluster,
        store: Store,
        reconciler: Reconciler,
        obituaries: Obituaries,
        sweep_interval: float,
        workers: int,
        on_swept: Callable[[], None] = lambda: None,
        random_: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._reconciler = reconciler
        self._obituaries = obituaries
        self._sweep_interval = sweep_interval
        self._workers = workers
        self._on_swept = on_swept
        self._random = random_
        self._sleep = sleep
        self._queue: WorkQueue[SensorRef] = WorkQueue(random_=random_)
        self._swept = False

    # -- observers -----------------------------------------------------------------------------------------------------

    def observe_sensor(self, kind: WatchEventType, body: Body) -> None:
        """A Sensor was seen, changed or deleted."""
        metadata = body["metadata"]
        ref = SensorRef(metadata["namespace"], metadata["name"])
        if not self._store.observe(SENSOR, kind, body):
            return
        if kind == "DELETED":
            self._gone(ref, body)
        else:
            self._queue.add(ref)

    def observe_child(self, what: Kind, kind: WatchEventType, body: Body) -> None:
        """An object or a pod of a Sensor was seen, changed or deleted."""
        ref = owner_of(body)
        if ref is not None and self._store.observe(what, kind, body) and self._swept:
            self._queue.add(ref)

    def look_at(self, ref: SensorRef) -> None:
        """Something about this Sensor may have changed (its Rules' summary, say)."""
        if self._swept and self._store.sensor(ref) is not None:
            self._queue.add(ref)

    def look_at_all(self) -> None:
        """Something that concerns every Sensor has changed (the signing keys, say)."""
        if self._swept:
            for ref in self._store.sensors():
                self._queue.add(ref)

    def _gone(self, ref: SensorRef, body: Body) -> None:
        _log.info("sensor_deleted", sensor=str(ref))
        self._obituaries.deceased(ref, uid=body["metadata"].get("uid", ""))
        self._reconciler.forget(ref)
        self._queue.forget(ref)
        with contextlib.suppress(KeyError):
            metrics.TOKEN_EXPIRY.remove(ref.namespace, ref.name)

    # -- work ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """List everything, then work until cancelled."""
        await self._first_sweep()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep_for_ever(), name="sensors: sweep")
            for number in range(self._workers):
                tasks.create_task(self._work(), name=f"sensors: worker {number}")

    async def _first_sweep(self) -> None:
        failures = 0
        while True:
            try:
                await self.sweep()
                return
            except ClusterError as error:
                _log.warning("sweep_failed", error=str(error))
                await self._sleep(backoff(failures, random_=self._random))
                failures += 1

    async def _sweep_for_ever(self) -> None:
        while True:
            await self._sleep(self._sweep_interval * (0.9 + 0.2 * self._random()))
            try:
                await self.sweep()
            except ClusterError as error:
                _log.warning("sweep_failed", error=str(error))

    async def sweep(self) -> None:
        """List Sensors and all that belongs to them, and have a look at each Sensor.

        Raises:
            ClusterError: a list could not be had; what is known stays as it was.
        """
        began = time.monotonic()
        # What belongs to Sensors comes first: no look at a Sensor then takes an object for missing that merely was not listed.
        for kind in (*CHILDREN, POD, SENSOR):
            since = self._store.moment
            listed = await self._cluster.list_all(kind, labels="" if kind is SENSOR else SELECTOR)
            gone = self._store.replace(kind, listed, since=since)
            if kind is SENSOR:
                for body in gone:
                    self._gone(SensorRef(body["metadata"]["namespace"], body["metadata"]["name"]), body)
        self._swept = True
        refs = self._store.sensors()
        self._obituaries.census({ref: self._uid(ref) for ref in refs})
        for ref in refs:
            self._queue.add(ref, urgent=False)
        for ready, count in sensor_states(self._store).items():
            metrics.SENSORS.labels(ready).set(count)
        metrics.SWEEP_SECONDS.set(time.monotonic() - began)
        metrics.LAST_SWEEP.set_to_current_time()
        _log.debug("swept", sensors=len(refs), seconds=round(time.monotonic() - began, 3))
        self._on_swept()

    def _uid(self, ref: SensorRef) -> str:
        return str((self._store.sensor(ref) or {}).get("metadata", {}).get("uid", ""))

    async def _work(self) -> None:
        while True:
            ref = await self._queue.get()
            metrics.QUEUED.set(len(self._queue))
            with metrics.RECONCILE_SECONDS.time():
                await self._look(ref)

    async def _look(self, ref: SensorRef) -> None:
        try:
            async with asyncio.timeout(_LOOK):
                again = await self._reconciler.reconcile(ref)
        except ClusterError as error:
            delay = self._queue.failed(ref)
            metrics.RECONCILES.labels("failed").inc()
            _log.warning("reconcile_failed", sensor=str(ref), error=str(error), again_in=round(delay, 2))
        except Exception:
            # One Sensor that nobody has foreseen must not keep the others from being looked after.
            delay = self._queue.failed(ref)
            metrics.RECONCILES.labels("error").inc()
            _log.exception("reconcile_error", sensor=str(ref), again_in=round(delay, 2))
        else:
            self._queue.done(ref, after=again)
            metrics.RECONCILES.labels("ok").inc()
