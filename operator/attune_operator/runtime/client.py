"""How the operator reads and writes Kubernetes objects: a protocol, so that the same code runs over another backend."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from attune_operator.resources.kinds import Kind, Object

#: A watch event's type as Kubernetes names it; None for objects of the initial list (kopf's convention).
WatchEventType = Literal["ADDED", "MODIFIED", "DELETED"] | None

#: An object's body as the Kubernetes API returns it.
Body = Mapping[str, Any]

#: Takes a uid and a resourceVersion. True if the object is known in this version, so that it need not be read again.
Known = Callable[[str, str], bool]

Read = TypeVar("Read")


class ClusterError(Exception):
    """A call to Kubernetes failed. ``status`` is the HTTP status, 0 if there was no answer."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(Generic[Read]):
    """A complete list: the objects that were read, and the uids of those that were already known in their version."""

    read: list[Read]
    unchanged: list[str]

    @classmethod
    def of(cls, bodies: Iterable[Body], *, read: Callable[[Body], Read | None], known: Known) -> "Listed[Read]":
        """Build it from complete objects. Objects for which ``read`` returns None are left out."""
        changed: list[Read] = []
        unchanged: list[str] = []
        for body in bodies:
            metadata = body["metadata"]
            if known(metadata["uid"], metadata["resourceVersion"]):
                unchanged.append(metadata["uid"])
            elif (one := read(body)) is not None:
                changed.append(one)
        return cls(read=changed, unchanged=unchanged)


class Client(Protocol):
    """Reads and writes objects. Every call raises :class:`ClusterError` if it fails.

    Callers must not change the objects they are given. The client does not change the bodies it is given.
    """

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """Return the object, or None if it does not exist."""
        ...

    async def list_objects(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", name: str = ""
    ) -> list[Object]:
        """Return every object of ``kind``, in one namespace or in all. The list is complete, or the call raises.

        With ``name``, only those of that name, for which a right to objects of that name is enough.
        """
        ...

    async def list_changed(
        self, kind: Kind, namespace: str | None = None, *, read: Callable[[Body], Read | None], known: Known
    ) -> Listed[Read]:
        """Like :meth:`list_objects`, but read only the objects that are not ``known``."""
        ...

    async def apply(self, kind: Kind, body: Object) -> Object:
        """Server-side apply as the operator's field manager. Return the resulting object."""
        ...

    async def create(self, kind: Kind, body: Object) -> Object:
        """Create the object (409 if it exists)."""
        ...

    async def replace(self, kind: Kind, body: Object) -> Object:
        """Replace the object. ``body`` must carry the ``resourceVersion`` that it replaces (409 if that has changed)."""
        ...

    async def merge(
        self, kind: Kind, namespace: str | None, name: str, patch: Object, *, subresource: str | None = None
    ) -> Object | None:
        """Apply a JSON merge patch (RFC 7396). Return None if the object does not exist."""
        ...

    async def merge_status(
        self, kind: Kind, namespace: str | None, name: str, status: Object, *, uid: str, first: bool = False
    ) -> Object | None:
        """Put these fields into the status of the object with exactly this uid, each as a whole; None removes a field.

        Return None if the object is gone or was replaced. ``first`` says that the object is thought to have no status yet,
        which saves calls and changes nothing else.
        """
        ...

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str) -> None:
        """Delete the object with exactly this uid. It is no error if it is gone or was replaced."""
