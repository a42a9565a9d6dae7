"""What the operator stands on: Kubernetes (:mod:`attune_operator.kubernetes_backend`), or something that speaks as it does.

Everything above decides and asks through these protocols only, so it runs unchanged over another backend.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from attune_operator.kinds import Kind, Object
from attune_operator.ports import Body, Known, Listed, Read, WatchEventType
from attune_operator.settings import Settings


class Client(Protocol):
    """Reads and writes objects. Every call raises :class:`~attune_operator.ports.ClusterError` where it fails.

    Objects that are handed out are not to be changed; bodies that are handed in are not changed.
    """

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The object, or None when there is none."""
        ...

    async def list_objects(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> list[Object]:
        """Every object of ``kind``, in one namespace or in all; complete, or it raises."""
        ...

    async def list_changed(
        self, kind: Kind, namespace: str | None = None, *, read: Callable[[Body], Read | None], known: Known
    ) -> Listed[Read]:
        """As :meth:`list_objects`, but only what is not ``known`` is read (``RuleCluster.list_rules``)."""
        ...

    async def apply(self, kind: Kind, body: Object) -> Object:
        """Server-side apply as the operator's field manager; returns the object as it is afterwards."""
        ...

    async def create(self, kind: Kind, body: Object) -> Object:
        """Make a new object (409 when there is one)."""
        ...

    async def replace(self, kind: Kind, body: Object) -> Object:
        """Put the whole object, which must carry the ``resourceVersion`` that it replaces (409 when that has changed)."""
        ...

    async def merge(
        self, kind: Kind, namespace: str | None, name: str, patch: Object, *, subresource: str | None = None
    ) -> Object | None:
        """JSON merge patch (RFC 7396); None when the object is gone."""
        ...

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str) -> None:
        """Delete exactly the object with this uid; that it is gone, or is another by now, is fine."""


class Observers(Protocol):
    """Who wants to know what is seen."""

    def observe_sensor(self, kind: WatchEventType, body: Body) -> None:
        """A Sensor was seen, changed or deleted."""

    def observe_rule(self, kind: WatchEventType, body: Body) -> None:
        """A Rule was seen, changed or deleted."""

    def observe_namespace(self, kind: WatchEventType, body: Body) -> None:
        """A namespace was seen, changed or deleted."""

    def observe_child(self, what: Kind, kind: WatchEventType, body: Body) -> None:
        """Something that carries the operator's label was seen, changed or deleted."""


class Watching(Protocol):
    """Watch streams."""

    async def run(self, *, on_started: Callable[[], None]) -> None:
        """Watch until :meth:`stop`; raises when a stream cannot go on. ``on_started``: everything was set up."""

    def stop(self) -> None:
        """Let the streams end."""


class Backend(Protocol):
    """A way to a place where objects are kept."""

    @property
    def client(self) -> Client:
        """For single calls."""
        ...

    async def serves_our_kinds(self) -> None:
        """Return when Sensors and Rules are known there.

        Raises:
            ClusterError: they are not (yet), with what to do about it.
        """

    def watches(self, observers: Observers) -> Watching:
        """Watch streams over the watched namespaces, for ``observers``."""
        ...

    async def close(self) -> None:
        """Give everything back."""


#: Finds the way; raises ClusterError where there is none.
Connect = Callable[[Settings], Awaitable[Backend]]
