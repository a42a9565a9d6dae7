"""What checks read of a system: Sensors and Rules, the chart's pods, the cluster's version. Each thing is read once."""

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from attune_cli.errors import RefusedError
from attune_cli.session import Session
from attune_contract.names import PART_OF_ATTUNE

#: So long it counts that the caller may not list all namespaces.
_REFUSED_SECONDS: Final = 30.0


class Lister:
    """Lists Sensors and Rules of all namespaces; of one, if it was named or the caller may not list the others.

    That the caller may not is remembered for a while: who looks every few seconds does not ask for it each time.

    Args:
        session: the system.
        namespace: the one that was named; None for all that the caller may list.
        everywhere: insist on all.
        clock: seconds of a clock that never goes back.
    """

    def __init__(
        self, session: Session, namespace: str | None, everywhere: bool, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = session
        self._namespace = namespace
        self._everywhere = everywhere
        self._clock = clock
        self._refused_until: dict[str, float] = {}

    def list(self, plural: str) -> list[dict[str, Any]]:
        """All of a kind.

        Raises:
            CliError: they cannot be listed.
        """
        kube = self._session.kube
        if self._namespace is not None or self._everywhere:
            return kube.list(plural, self._session.scope(self._namespace, everywhere=self._everywhere))
        if self._clock() >= self._refused_until.get(plural, float("-inf")):
            try:
                return kube.list(plural, None)
            except RefusedError:
                self._refused_until[plural] = self._clock() + _REFUSED_SECONDS
        return kube.list(plural, self._session.scope(None))


class Looked:
    """One look at a system. What was read is kept for who needs it later; what could not be read is asked for again.

    Args:
        session: the system.
        namespace: whose Sensors and Rules; None for all that the caller may list.
        everywhere: insist on all.
    """

    def __init__(self, session: Session, namespace: str | None, everywhere: bool) -> None:
        self.session = session
        self.namespace = namespace
        self.everywhere = everywhere
        self._lister = Lister(session, namespace, everywhere)
        self._objects: dict[str, list[dict[str, Any]]] = {}
        self._pods: list[dict[str, Any]] | None = None
        self._version: tuple[Mapping[str, Any], timedelta | None] | None = None

    def version(self) -> tuple[Mapping[str, Any], timedelta | None]:
        """The cluster's, and how far its clock is ahead of ours (:meth:`Kube.version`).

        Raises:
            CliError: it cannot be read.
        """
        if self._version is None:
            self._version = self.session.kube.version()
        return self._version

    def pods(self) -> list[dict[str, Any]]:
        """Those of the chart.

        Raises:
            CliError: they cannot be listed.
        """
        if self._pods is None:
            self._pods = self.session.kube.pods(self.session.options.system_namespace, PART_OF_ATTUNE)
        return self._pods

    def objects(self, plural: str) -> list[dict[str, Any]]:
        """Sensors or Rules, of all namespaces or of one, as :class:`Lister` has them.

        Raises:
            CliError: they cannot be listed.
        """
        if plural not in self._objects:
            self._objects[plural] = self._lister.list(plural)
        return self._objects[plural]
