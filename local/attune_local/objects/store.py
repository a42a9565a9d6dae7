"""All objects of one ``attune up``: kept, versioned, changes of.

As an API server: every change has a new ``resourceVersion``; ``generation`` rises with what a user says and not with the status;
a deleted object takes along what it owned. Pods alone go in two steps, since a process has to end first. Everything is
synchronous and in one thread; subscribers are called at once and must not block.

Objects that are handed out are shared: they are not to be changed.
"""

import itertools
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog

from attune_local.objects import fields
from attune_local.objects.database import ObjectFile, Row
from attune_operator.public.backend import ClusterError, WatchEventType
from attune_operator.public.objects import EVENT, NAMESPACE, POD, Kind, Object

_log = structlog.stdlib.get_logger(__name__)

#: Told of every change, with the object as it is now (or was, when it is gone).
Subscriber = Callable[[Kind, WatchEventType, Object], None]

#: Events are for `kubectl describe`, not for keeps.
_MOST_EVENTS: Final = 2000
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_SERVER_FIELDS: Final = (
    "uid",
    "creationTimestamp",
    "generation",
    "resourceVersion",
    "managedFields",
    "deletionTimestamp",
)


def timestamp(time: datetime) -> str:
    """A time as Kubernetes writes it: UTC, whole seconds (RFC 3339)."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class ObjectStore:
    """The objects. ``path`` is where they are kept between runs; None: nowhere.

    Every call that fails raises :class:`~attune_operator.runtime.client.ClusterError` with an HTTP status.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_uid: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._now = now
        self._new_uid = new_uid
        self._objects: dict[Kind, OrderedDict[tuple[str, str], Object]] = {}
        self._applied: dict[tuple[Kind, str, str], dict[str, Any]] = {}
        self._subscribers: list[Subscriber] = []
        self._file = ObjectFile(path) if path is not None else None
        newest = 0
        if self._file is not None:
            for row in self._file.load():
                metadata = row.body["metadata"]
                key = (metadata.get("namespace", ""), metadata["name"])
                self._objects.setdefault(row.kind, OrderedDict())[key] = row.body
                self._applied[(row.kind, *key)] = row.applied
                newest = max(newest, int(metadata["resourceVersion"]))
        self._versions = itertools.count(newest + 1)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Have every change changes from now on; returns what ends it."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    # -- reading

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The object, or None."""
        objects = self._objects.get(kind)
        return objects.get((namespace or "", name)) if objects is not None else None

    def need(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """The object.

        Raises:
            ClusterError: there is none (404).
        """
        found = self.get(kind, namespace, name)
        if found is None:
            raise ClusterError(f'{kind.plural} "{name}" not found', status=_NOT_FOUND)
        return found

    def list_objects(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> list[Object]:
        """Every object of the kind, in one namespace or in all."""
        return [
            body
            for (within, _), body in self._objects.get(kind, OrderedDict()).items()
            if (namespace is None or within == namespace) and (not labels or fields.labels_match(body, labels))
        ]

    def applied(self, kind: Kind, body: Object, *, manager: str) -> Object | None:
        """What the manager applied last to this object; None when that was nothing, or the object is gone."""
        metadata = body["metadata"]
        return self._applied.get((kind, metadata.get("namespace", ""), metadata["name"]), {}).get(manager)

    def kinds(self) -> Iterator[Kind]:
        """Kinds of which there are objects."""
        return (kind for kind, objects in self._objects.items() if objects)

    # -- writing

    def create(self, kind: Kind, body: Object, *, manager: str) -> Object:
        """Make an object (409 when there is one)."""
        metadata = body["metadata"]
        if self.get(kind, metadata.get("namespace"), metadata["name"]) is not None:
            raise ClusterError(f'{kind.plural} "{metadata["name"]}" already exists', status=_CONFLICT)
        return self._make(kind, body, manager=manager, applied={})

    def apply(self, kind: Kind, body: Object, *, manager: str) -> Object:
        """Server-side apply with force: makes the object, or changes it to what the manager says now."""
        return self.apply_all([(kind, body)], manager=manager)[0]

    def apply_all(
        self, bodies: Iterable[tuple[Kind, Object]], *, manager: str, only_changes: bool = False
    ) -> list[Object]:
        """Apply many objects in one commit.

        ``only_changes``: only fields about which the manager says something else than before. What others have changed
        meanwhile stays.
        """
        results, rows, changes = [], [], []
        for kind, body in bodies:
            before = self.get(kind, body["metadata"].get("namespace"), body["metadata"]["name"])
            after = self._applied_to(kind, before, body, manager, only_changes=only_changes)
            results.append(after)
            if after is not before:
                rows.append(self._row(kind, after))
                changes.append((kind, "ADDED" if before is None else "MODIFIED", after))
        self._keep(rows)
        for kind, event, after in changes:
            self._notify(kind, event, after)  # type: ignore[arg-type]
        return results

    def _applied_to(
        self, kind: Kind, before: Object | None, body: Object, manager: str, *, only_changes: bool
    ) -> Object:
        said = fields.content(body)
        key = (kind, body["metadata"].get("namespace", ""), body["metadata"]["name"])
        if before is None:
            self._applied[key] = {manager: said}
            return self._place(kind, self._new(kind, body, manager=manager, said=said))
        previously = self._applied.setdefault(key, {}).get(manager, {})
        changes = fields.difference(previously, said) if only_changes else said
        changed = fields.overlaid(fields.without_dropped(before, previously, said), changes)
        self._applied[key][manager] = said
        return self._changed(kind, before, changed, manager=manager, said=said, operation="Apply")

    def replace(self, kind: Kind, body: Object, *, manager: str) -> Object:
        """Put the whole object in the place of the one whose ``resourceVersion`` it carries (409 when that has changed)."""
        metadata = body["metadata"]
        before = self.need(kind, metadata.get("namespace"), metadata["name"])
        if metadata.get("resourceVersion") not in (None, before["metadata"]["resourceVersion"]):
            message = f'{kind.plural} "{metadata["name"]}": the object has been modified; read it again and retry'
            raise ClusterError(message, status=_CONFLICT)
        kept = {key: before["metadata"][key] for key in _SERVER_FIELDS if key in before["metadata"]}
        managed = {"managedFields": metadata["managedFields"]} if "managedFields" in metadata else {}
        changed = {**body, "metadata": {**metadata, **kept, **managed}}
        if "status" in before:
            changed["status"] = before["status"]
        return self._write(kind, before, self._changed(kind, before, changed, manager=manager, said={}))

    def merge(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        patch: Object,
        *,
        manager: str,
        subresource: str | None = None,
        result: Object | None = None,
    ) -> Object:
        """JSON merge patch of the object, or of its status alone.

        ``result`` is the patched object where it was judged before, and changed by that (defaults, unknown fields).

        Raises:
            ClusterError: it is gone (404).
        """
        before = self.need(kind, namespace, name)
        if subresource == "status":
            changed = {**before, "status": fields.merged(before.get("status"), patch.get("status"))}
            return self._write(kind, before, self._changed(kind, before, changed, manager=manager, said={}))
        said = {key: value for key, value in patch.items() if key != "status"}
        changed = fields.merged(before, said) if result is None else {**result}
        if "status" in before:
            changed["status"] = before["status"]
        kept = {
            key: before["metadata"][key] for key in ("name", "namespace", *_SERVER_FIELDS) if key in before["metadata"]
        }
        changed = {**changed, "metadata": {**changed["metadata"], **kept}}
        after = self._changed(kind, before, changed, manager=manager, said=fields.content(said))
        return self._write(kind, before, after)

    def set_status(self, kind: Kind, namespace: str, name: str, status: Object) -> Object | None:
        """Put a whole status; None when the object is gone."""
        before = self.get(kind, namespace, name)
        if before is None:
            return None
        return self._write(kind, before, self._changed(kind, before, {**before, "status": status}, manager="", said={}))

    def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str = "") -> None:
        """Delete the object and what it owned. A pod is marked, and goes with :meth:`remove` when its process has ended.

        Raises:
            ClusterError: there is none (404), or it is another than the one meant (409).
        """
        found = self.need(kind, namespace, name)
        if uid and found["metadata"]["uid"] != uid:
            raise ClusterError(f'{kind.plural} "{name}" is another object by now', status=_CONFLICT)
        if kind == POD:
            if "deletionTimestamp" not in found["metadata"]:
                marked = {**found, "metadata": {**found["metadata"], "deletionTimestamp": timestamp(self._now())}}
                self._write(kind, found, self._versioned(kind, found, marked))
            return
        self.remove(kind, found)

    def remove(self, kind: Kind, body: Object) -> None:
        """Take the object away at once, with what it owned."""
        metadata = body["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        gone = self._objects.get(kind, OrderedDict()).pop((namespace, name), None)
        if gone is None:
            return
        self._applied.pop((kind, namespace, name), None)
        if self._file is not None and kind != EVENT:
            self._file.remove(kind, namespace, name)
        last = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(next(self._versions))}}
        self._notify(kind, "DELETED", last)
        uid = metadata["uid"]
        for other in list(self._objects):
            for found in list(self._objects[other].values()):
                inside = kind == NAMESPACE and found["metadata"].get("namespace") == name
                owned = any(owner.get("uid") == uid for owner in found["metadata"].get("ownerReferences") or ())
                if inside or owned:
                    self.delete(other, found["metadata"].get("namespace"), found["metadata"]["name"])

    # -- inside

    def _make(self, kind: Kind, body: Object, *, manager: str, applied: dict[str, Any]) -> Object:
        made = self._place(kind, self._new(kind, body, manager=manager, said=fields.content(body)))
        metadata = made["metadata"]
        self._applied[(kind, metadata.get("namespace", ""), metadata["name"])] = applied
        self._keep([self._row(kind, made)])
        self._notify(kind, "ADDED", made)
        if kind == EVENT:
            self._trim_events()
        return made

    def _new(self, kind: Kind, body: Object, *, manager: str, said: Object) -> Object:
        named = {key: value for key, value in body["metadata"].items() if key not in _SERVER_FIELDS}
        if kind == NAMESPACE:
            named["labels"] = {**(named.get("labels") or {}), "kubernetes.io/metadata.name": named["name"]}
        elif kind.namespaced:
            self._ensure_namespace(named["namespace"])
        metadata = {
            **named,
            "uid": self._new_uid(),
            "creationTimestamp": timestamp(self._now()),
            "generation": 1,
            "resourceVersion": str(next(self._versions)),
        }
        made = {"apiVersion": kind.api_version, "kind": kind.kind, **body, "metadata": metadata}
        self._own(metadata, manager, said, operation="Apply")
        return made

    def _ensure_namespace(self, name: str) -> None:
        """Create the namespace of an object if it does not exist."""
        if self.get(NAMESPACE, None, name) is None:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self._make(NAMESPACE, body, manager="attune-up", applied={})

    def _place(self, kind: Kind, body: Object) -> Object:
        metadata = body["metadata"]
        self._objects.setdefault(kind, OrderedDict())[(metadata.get("namespace", ""), metadata["name"])] = body
        return body

    def _changed(
        self, kind: Kind, before: Object, changed: Object, *, manager: str, said: Object, operation: str = "Update"
    ) -> Object:
        """The object after a change; ``before`` itself when nothing has changed."""
        if changed == before:
            return before
        metadata = {**changed["metadata"]}
        changed = {**changed, "metadata": metadata}
        for key in ("labels", "annotations", "ownerReferences"):
            if key in metadata and not metadata[key]:
                del metadata[key]
        self._own(metadata, manager, said, operation=operation)
        return self._place(kind, self._versioned(kind, before, changed))

    def _versioned(self, kind: Kind, before: Object, after: Object) -> Object:
        metadata = {**after["metadata"], "resourceVersion": str(next(self._versions))}
        ours = ("metadata", "status")
        if any(after.get(key) != before.get(key) for key in {*after, *before} if key not in ours):
            metadata["generation"] = int(before["metadata"].get("generation") or 0) + 1
        return self._place(kind, {**after, "metadata": metadata})

    def _own(self, metadata: Object, manager: str, said: Object, *, operation: str) -> None:
        """Record which manager set which fields, so that the operator notices fields in its objects that others set."""
        if not said:
            return
        taken = fields.field_set(said)
        entries = []
        for entry in metadata.get("managedFields") or ():
            left = fields.without_fields(entry["fieldsV1"], taken)
            if entry["manager"] == manager:
                taken = fields.overlaid(left, taken) if operation == "Update" else taken
            elif left:
                entries.append({**entry, "fieldsV1": left})
        entries.append(
            {
                "manager": manager,
                "operation": operation,
                "time": timestamp(self._now()),
                "fieldsType": "FieldsV1",
                "fieldsV1": taken,
            }
        )
        metadata["managedFields"] = entries

    def _write(self, kind: Kind, before: Object, after: Object) -> Object:
        if after is not before:
            self._keep([self._row(kind, after)])
            self._notify(kind, "MODIFIED", after)
        return after

    def _row(self, kind: Kind, body: Object) -> Row:
        metadata = body["metadata"]
        return Row(kind, body, self._applied.get((kind, metadata.get("namespace", ""), metadata["name"]), {}))

    def _keep(self, rows: list[Row]) -> None:
        if self._file is not None and (kept := [row for row in rows if row.kind != EVENT]):
            self._file.put(kept)

    def _notify(self, kind: Kind, event: WatchEventType, body: Object) -> None:
        for subscriber in list(self._subscribers):
            try:
                subscriber(kind, event, body)
            except Exception:
                # The object is stored. One part that cannot cope with it must not keep the others from hearing of it.
                _log.exception("change_not_handled", kind=kind.kind, name=body["metadata"].get("name"))

    def _trim_events(self) -> None:
        events = self._objects[EVENT]
        while len(events) > _MOST_EVENTS:
            key, _ = events.popitem(last=False)
            self._applied.pop((EVENT, *key), None)
