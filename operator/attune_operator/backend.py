"""The backend of the operator: Kubernetes (:mod:`attune_operator.kubernetes_backend`), or something that behaves like it.

The operator uses these protocols only, so it runs unchanged over another backend (docs/decisions/0022).
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from attune_operator.observers import Observers
from attune_operator.runtime.client import Client
from attune_operator.settings import Settings


class Watching(Protocol):
    """Watch streams."""

    async def run(self, *, on_started: Callable[[], None]) -> None:
        """Watch until :meth:`stop`; raises if a stream fails for good. ``on_started`` is called when everything is set up."""

    def stop(self) -> None:
        """Let the streams end."""


class Backend(Protocol):
    """A connection to a store of objects."""

    @property
    def client(self) -> Client:
        """The client for single calls."""
        ...

    async def serves_our_kinds(self) -> None:
        """Return when Sensors and Rules are known there.

        Raises:
            ClusterError: they are not (yet); the text says what to do.
        """

    def watches(self, observers: Observers) -> Watching:
        """Watch streams over the watched namespaces, for ``observers``."""
        ...

    async def close(self) -> None:
        """Release everything."""


#: Connects; raises ClusterError if no connection is configured.
Connect = Callable[[Settings], Awaitable[Backend]]
