"""A way not to fire, as a value, and what was seen of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ways.stage import Stage

Manifest = dict[str, Any]
#: Where somebody looks: ``kubectl get rules,sensors -o wide``, ``kubectl describe`` of them, ``attune status``.
PLACES = ("get", "describe", "status")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way in which a Rule does not fire.

    Attributes:
        name: lower case with dashes; the namespace is named after it.
        what: what is wrong, for the table.
        cause: a regular expression for the true cause, found within one line of a place, without regard to case.
        before: what is there and works before it happens. Each Sensor is waited for until it is Ready, each Rule until it is
            Active.
        breaks: makes it happen. Time counts from its beginning, or from ``stage.begin()`` where it calls that.
        wrong: regular expressions of what would be wrong to say, in any place, when the way has been told everywhere.
        kubelet: what the kubelet, the scheduler or another controller of Kubernetes says of it, in pods and their events. The
            seconds that it needs before it says so are not ours; they stand in the table by themselves.
        places: where it can be told; ``but`` says why not elsewhere.
        but: a remark for the table.
        alone: it disturbs others, so no other way runs meanwhile. What is said of the whole system then counts as well.
        mends: undoes what outlives the namespace.
        labels: of the namespace; the restricted Pod Security level is enforced unless they say otherwise.
        within: seconds to wait for it at most.
    """

    name: str
    what: str
    cause: str
    breaks: Callable[[Stage], None]
    before: Callable[[Stage], list[Manifest]] | None = None
    wrong: tuple[str, ...] = ()
    kubelet: str = ""
    places: tuple[str, ...] = PLACES
    but: str = ""
    alone: bool = False
    mends: Callable[[Stage], None] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    within: float = 60.0


@dataclass(kw_only=True)
class Found:
    """How a way was told.

    Attributes:
        seconds: by place, from when it happened until the cause stood there.
        lines: by place, the line that told it.
        kubelet: seconds until Kubernetes itself said it; None where the way does not depend on that, or it never did.
        wrong: lines that say what is wrong.
        last: by place, what stood there at the end, of ways that were not told.
        error: why the way could not be made to happen.
    """

    name: str
    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    kubelet: float | None = None
    wrong: list[str] = field(default_factory=list)
    last: dict[str, list[str]] = field(default_factory=dict)
    error: str = ""

    def ours(self, place: str) -> float | None:
        """The seconds that we needed ourselves: from when Kubernetes knew; None where it was never told."""
        if place not in self.seconds:
            return None
        return max(0.0, self.seconds[place] - (self.kubelet or 0.0))

    def slowest(self, way: Way) -> float | None:
        """Our own seconds in the slowest of the way's places; None if one of them never told it."""
        times = [self.ours(place) for place in way.places]
        return None if any(time is None for time in times) else max(time for time in times if time is not None)


REGISTRY: dict[str, Way] = {}


def add(*ways: Way) -> None:
    """Put ways into the table."""
    for way in ways:
        if way.name in REGISTRY:
            raise ValueError(f"two ways are called {way.name}")
        REGISTRY[way.name] = way
