"""What the operator stands on: Kubernetes (:mod:`attune_operator.kubernetes_backend`), or something that speaks as it does.

Everything above decides and asks through these protocols only, so it runs unchanged over another backend.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from attune_operator.observers import Observers
from attune_operator.runtime.client import Client
from attune_operator.settings import Settings


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
