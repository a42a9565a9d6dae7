"""Kubernetes as the Rule side sees it, in memory: lists, merge patches of statuses, and watch events when a test wants them.

It keeps objects as the API server does: uids and generations are its own, a spec that changes raises the generation, a status
does not, a merge patch follows RFC 7386.
"""

import asyncio
import itertools
import pickle
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from attune_operator.runtime.client import Body, ClusterError, Known, Listed, Read, WatchEventType
from attune_operator.runtime.events import ObjectEvent

Object = dict[str, Any]
Watcher = Callable[[WatchEventType, Object], None]

T = TypeVar("T")

_START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def copied(value: T) -> T:
    """A copy that shares nothing, ten times as fast as ``copy.deepcopy``: it is made in the steps that tests measure."""
    return cast("T", pickle.loads(pickle.dumps(value, pickle.HIGHEST_PROTOCOL)))


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copied(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


class MemoryCluster:
    """Objects by kind, namespace and name. ``watchers`` are told of every change while ``watching``;
    ``onlookers``, who stand for nothing in Kubernetes, always.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.watchers: list[Watcher] = []
        self.onlookers: list[Watcher] = []
        self.watching = True
        self.reachable = True
        self.events: list[ObjectEvent] = []
        self.status_writes = 0
        self.lists = 0
        self.list_delay: asyncio.Event | None = None
        self.patch_delay: asyncio.Event | None = None
        self.patches_held = 0
        self._created = itertools.count()
        self._versions = itertools.count(1)

    # -- as a user

    def namespace(self, name: str, **labels: str) -> Object:
        return self._put("Namespace", "", name, {}, labels={"kubernetes.io/metadata.name": name, **labels})

    def sensor(self, namespace: str, name: str, *trigger_types: Object | str, **spec: Any) -> Object:
        types = [{"name": each} if isinstance(each, str) else each for each in trigger_types]
        return self._put("Sensor", namespace, name, {"image": "sensor:1", "triggerTypes": types, **spec})

    def rule(
        self,
        namespace: str,
        name: str,
        trigger_type: str = "core.intervaltimer",
        *,
        enabled: bool = True,
        manager: str = "kubectl",
        **parameters: Any,
    ) -> Object:
        spec = {"enabled": enabled, "trigger": {"type": trigger_type, "parameters": parameters}}
        return self._put("Rule", namespace, name, spec, manager=manager)

    def rule_with(self, namespace: str, name: str, spec: Object) -> Object:
        """A Rule with more than a trigger."""
        whole = {"enabled": True, "trigger": {"type": "core.timer", "parameters": {}}, **spec}
        return self._put("Rule", namespace, name, whole)

    def annotate(self, namespace: str, name: str, **annotations: str) -> None:
        """Set annotations, which raises no generation."""
        body = copied(self.objects["Rule", namespace, name])
        body["metadata"]["annotations"] = {**body["metadata"].get("annotations", {}), **annotations}
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects["Rule", namespace, name] = body
        self._tell("MODIFIED", body)

    def delete(self, kind: str, namespace: str, name: str) -> None:
        self._tell("DELETED", self.objects.pop((kind, namespace, name)))

    def get(self, kind: str, namespace: str, name: str) -> Object:
        return copied(self.objects[(kind, namespace, name)])

    def all(self, kind: str) -> list[Object]:
        return [copied(item) for key, item in self.objects.items() if key[0] == kind]

    def condition(self, namespace: str, name: str, kind: str) -> tuple[str, str]:
        """Status and reason of a Rule's condition; ("", "") while there is none."""
        status = self.objects[("Rule", namespace, name)].get("status", {})
        for condition in status.get("conditions", []):
            if condition["type"] == kind:
                return condition["status"], condition["reason"]
        return "", ""

    def message(self, namespace: str, name: str, kind: str) -> str:
        status = self.objects[("Rule", namespace, name)].get("status", {})
        return next((c["message"] for c in status.get("conditions", []) if c["type"] == kind), "")

    def _put(
        self,
        kind: str,
        namespace: str,
        name: str,
        spec: Object,
        *,
        labels: dict[str, str] | None = None,
        manager: str = "",
    ) -> Object:
        key = (kind, namespace, name)
        present = self.objects.get(key)
        kind_of_event: WatchEventType = "ADDED"
        if present is None:
            created = (_START + timedelta(seconds=next(self._created))).strftime("%Y-%m-%dT%H:%M:%SZ")
            metadata = {"uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": created, "name": name}
            present = {"metadata": metadata | ({"namespace": namespace} if namespace else {}), "spec": {}}
        else:
            present = copied(present)
            kind_of_event = "MODIFIED"
            if present["spec"] != spec:
                present["metadata"]["generation"] += 1
        present["spec"] = copied(spec)
        if labels is not None:
            present["metadata"]["labels"] = labels
        if manager:
            present["metadata"]["managedFields"] = [
                {"manager": manager, "time": "2026-11-23T12:00:00Z", "fieldsV1": {"f:spec": {}}}
            ]
        self._store(key, present)
        self._tell(kind_of_event, present)
        return copied(present)

    def _store(self, key: tuple[str, str, str], item: Object) -> None:
        item["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[key] = item

    def _tell(self, kind: WatchEventType, item: Object) -> None:
        for onlooker in self.onlookers:
            onlooker(kind, item)
        if self.watching:
            for watcher in self.watchers:
                watcher(kind, copied(item))

    # -- as the Rule side

    async def list_rules(self, read: Callable[[Body], Read | None], *, known: Known) -> Listed[Read]:
        return Listed.of(await self._list("Rule"), read=read, known=known)

    async def list_sensors(self) -> list[Object]:
        return await self._list("Sensor")

    async def list_namespaces(self) -> list[Object]:
        return await self._list("Namespace")

    async def _list(self, kind: str) -> list[Object]:
        await asyncio.sleep(0)
        self._check()
        items = self.all(kind)
        self.lists += 1
        if self.list_delay is not None:
            await self.list_delay.wait()
        return items

    async def patch_rule_status(
        self, namespace: str, name: str, status: Object, *, uid: str, first: bool = False
    ) -> None:
        await asyncio.sleep(0)
        if self.patch_delay is not None:
            self.patches_held += 1
            await self.patch_delay.wait()
        self._check()
        present = self.objects.get(("Rule", namespace, name))
        if present is None or present["metadata"]["uid"] != uid:
            return
        self.status_writes += 1
        changed = copied(present)
        changed["status"] = merge(present.get("status"), status)
        if changed != present:
            self._store(("Rule", namespace, name), changed)
            self._tell("MODIFIED", changed)

    def record(self, event: ObjectEvent) -> None:
        self.events.append(event)

    def _check(self) -> None:
        if not self.reachable:
            raise ClusterError("connection refused")
