"""The store as the operator's backend (:mod:`attune_operator.backend`)."""

import asyncio
from collections.abc import Callable

from attune_contract import names
from attune_local.objects.store import ObjectStore
from attune_operator.public.backend import Body, ClusterError, Known, Listed, Observers, Read, WatchEventType
from attune_operator.public.objects import NAMESPACE, RULE, SENSOR, WATCHED, Kind, Object

_MANAGER = names.FIELD_MANAGER


class LocalClient:
    """Calls to a store, in the operator's name."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The object, or None when there is none."""
        return self._store.get(kind, namespace, name)

    async def list_objects(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", name: str = ""
    ) -> list[Object]:
        """Every object of ``kind``."""
        found = self._store.list_objects(kind, namespace, labels=labels)
        return [body for body in found if not name or body["metadata"]["name"] == name]

    async def list_changed(
        self, kind: Kind, namespace: str | None = None, *, read: Callable[[Body], Read | None], known: Known
    ) -> Listed[Read]:
        """Every object of ``kind`` by ``read``, unless it is ``known``."""
        return Listed.of(self._store.list_objects(kind, namespace), read=read, known=known)

    async def apply(self, kind: Kind, body: Object) -> Object:
        """Server-side apply."""
        return self._store.apply(kind, body, manager=_MANAGER)

    async def create(self, kind: Kind, body: Object) -> Object:
        """Make a new object."""
        return self._store.create(kind, body, manager=_MANAGER)

    async def replace(self, kind: Kind, body: Object) -> Object:
        """Put the whole object."""
        return self._store.replace(kind, body, manager=_MANAGER)

    async def merge(
        self, kind: Kind, namespace: str | None, name: str, patch: Object, *, subresource: str | None = None
    ) -> Object | None:
        """JSON merge patch; None when the object is gone."""
        try:
            return self._store.merge(kind, namespace, name, patch, manager=_MANAGER, subresource=subresource)
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    async def merge_status(
        self, kind: Kind, namespace: str | None, name: str, status: Object, *, uid: str, first: bool = False
    ) -> Object | None:
        """Put fields into a status; None when the object is gone, or is another by now."""
        present = self._store.get(kind, namespace, name)
        if present is None or present["metadata"]["uid"] != uid:
            return None
        return await self.merge(kind, namespace, name, {"status": status}, subresource="status")

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str) -> None:
        """Delete exactly the object with this uid; that it is gone, or is another by now, is fine."""
        try:
            self._store.delete(kind, namespace, name, uid=uid)
        except ClusterError as error:
            if error.status not in (404, 409):
                raise


class StoreWatching:
    """What happens in a store, told to observers as an API server's watches would."""

    def __init__(self, store: ObjectStore, observers: Observers) -> None:
        self._store = store
        self._observers = observers
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Let :meth:`run` end."""
        self._stop.set()

    async def run(self, *, on_started: Callable[[], None] = lambda: None) -> None:
        """Tell what there is, and then each change."""
        unsubscribe = self._store.subscribe(self._on_change)
        try:
            for kind in (NAMESPACE, SENSOR, RULE, *WATCHED):
                for body in self._store.list_objects(kind):
                    self._on_change(kind, None, body)
            on_started()
            await self._stop.wait()
        finally:
            unsubscribe()

    def _on_change(self, kind: Kind, event: WatchEventType, body: Object) -> None:
        if kind == SENSOR:
            self._observers.observe_sensor(event, body)
        elif kind == RULE:
            self._observers.observe_rule(event, body)
        elif kind == NAMESPACE:
            self._observers.observe_namespace(event, body)
        elif kind in WATCHED and (body["metadata"].get("labels") or {}).get(names.MANAGED_BY_LABEL) == names.MANAGED_BY:
            self._observers.observe_child(kind, event, body)


class LocalBackend:
    """The store behind an operator that runs in the same event loop."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.client = LocalClient(store)

    async def serves_our_kinds(self) -> None:
        """They are always there."""

    def watches(self, observers: Observers) -> StoreWatching:
        """What happens, for ``observers``."""
        return StoreWatching(self._store, observers)

    async def close(self) -> None:
        """The store belongs to its creator."""
