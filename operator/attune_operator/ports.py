"""Where the operator's parts meet: the Sensor side, the Rule side and Kubernetes.

Each side depends on these values and protocols, not on the other side, so each is tested with the other left out.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeVar

from attune_contract import names
from attune_contract.identity import SensorRef

#: A watch event's type as Kubernetes names it; None for objects of the initial listing (kopf's convention).
WatchEventType = Literal["ADDED", "MODIFIED", "DELETED"] | None

#: An object's body as the Kubernetes API gives it.
Body = Mapping[str, Any]

#: Whether the object with this uid is known as it stands in this resourceVersion, so that there is nothing new to read.
Known = Callable[[str, str], bool]

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(Generic[Read]):
    """A complete list: what was read of its objects, and the uids of those that were known as they stand."""

    read: list[Read]
    unchanged: list[str]

    @classmethod
    def of(cls, bodies: Iterable[Body], *, read: Callable[[Body], Read | None], known: Known) -> "Listed[Read]":
        """What a list of whole objects comes to. What ``read`` makes None of is left out."""
        news: list[Read] = []
        unchanged: list[str] = []
        for body in bodies:
            metadata = body["metadata"]
            if known(metadata["uid"], metadata["resourceVersion"]):
                unchanged.append(metadata["uid"])
            elif (one := read(body)) is not None:
                news.append(one)
        return cls(read=news, unchanged=unchanged)


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorRuntime:
    """How a Sensor's pods do: how many are ready, and when none is, why (a sentence for people).

    ``instances`` are the names of those whose program runs, ready or not; None where they are not known.
    """

    ready_replicas: int
    message: str = ""
    instances: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What becomes the condition Healthy: ``healthy`` is None when it is not known."""

    healthy: bool | None = None
    reason: str = names.HealthReason.NOT_REPORTED
    message: str = "The sensor has not said yet how it fares."


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSummary:
    """What the Rule side knows about one Sensor's Rules; becomes ``status.rules`` and the condition RulesSynced.

    ``synced`` is None while it is not known yet (the first comparison is under way): the condition is then Unknown.
    ``reason`` is one CamelCase word, ``message`` a sentence. ``health`` is None while it cannot be judged: what was known stays.
    """

    bound: int = 0
    active: int = 0
    rejected: int = 0
    synced: bool | None = None
    reason: str = "Pending"
    message: str = "The rules have not been compared with the stream yet."
    last_event_time: datetime | None = None
    health: Health | None = None


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

    ``reason`` is CamelCase (``TokenRenewed``), ``action`` what was done or tried (``Renew``), ``message`` a sentence of at
    most 1 KiB with no secret in it.
    """

    regarding: ObjectReference
    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"
    action: str = "Reconcile"


class EventSink(Protocol):
    """Where Kubernetes Events go."""

    def record(self, event: ObjectEvent) -> None:
        """Hand over an Event; never blocks and never raises. Equal events are aggregated, and floods are cut."""


class RuleCluster(EventSink, Protocol):
    """What the Rule side needs of Kubernetes.

    The lists are complete (all pages, all watched namespaces) or the call raises: a list that may lack something must never
    be taken for the truth.
    """

    async def list_rules(self, read: Callable[[Body], Read | None], *, known: Known) -> Listed[Read]:
        """Every Rule in the watched namespaces, by ``read``, unless it is ``known``. What ``read`` makes None of is left out.

        There may be 100,000, of which hardly one has changed since the last list: to read only what did is most of what
        having them at rest can cost less.
        """
        ...

    async def list_sensors(self) -> list[dict[str, Any]]:
        """Every Sensor in the watched namespaces."""
        ...

    async def list_namespaces(self) -> list[dict[str, Any]]:
        """Every watched namespace (their labels are what selectors match)."""
        ...

    async def patch_rule_status(self, namespace: str, name: str, status: dict[str, Any]) -> None:
        """Merge ``status`` into the Rule's status subresource. A Rule that is gone is no error.

        Raises:
            ClusterError: Kubernetes refused or could not be reached; try again later.
        """


class ClusterError(Exception):
    """A call to Kubernetes failed. ``status`` is the HTTP status, 0 when there was no answer."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


#: Told when a Sensor's summary may have changed; cheap, called in the event loop.
SummaryListener = Callable[[SensorRef], None]


class RuleSide(Protocol):
    """What the Sensor side and the handlers need of the Rule side. The observers are cheap and never block."""

    async def run(self) -> None:
        """Work until cancelled."""

    def observe_rule(self, kind: WatchEventType, body: Body) -> None:
        """A Rule was seen, changed or deleted."""

    def observe_sensor(self, kind: WatchEventType, body: Body) -> None:
        """A Sensor was seen, changed or deleted."""

    def observe_namespace(self, kind: WatchEventType, body: Body) -> None:
        """A namespace was seen, changed or deleted."""

    def observe_runtime(self, ref: SensorRef, runtime: SensorRuntime) -> None:
        """A Sensor's pods became ready or stopped being so."""

    def summary(self, ref: SensorRef) -> RuleSummary:
        """What is known about a Sensor's Rules now."""
        ...
