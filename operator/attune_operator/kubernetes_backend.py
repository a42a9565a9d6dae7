"""Kubernetes as the operator's backend: the kit's client for calls, kopf for watching."""

from collections.abc import Sequence

from attune_operator.observers import Observers
from attune_operator.resources.kinds import RULE, SENSOR
from attune_operator.runtime.client import ClusterError
from attune_operator.runtime.kube_client import KubeClient, load_access
from attune_operator.settings import Settings
from attune_operator.watching import Watches


class KubernetesBackend:
    """An API server.

    ``namespaces`` are those that are watched, ``sensor_namespaces`` those of them where Sensors run; empty means all.
    """

    def __init__(self, client: KubeClient, *, namespaces: Sequence[str], sensor_namespaces: Sequence[str] = ()) -> None:
        self.client = client
        self._namespaces = namespaces
        self._sensor_namespaces = sensor_namespaces

    async def serves_our_kinds(self) -> None:
        """Return when the CustomResourceDefinitions are there.

        Raises:
            ClusterError: they are not, or the API server cannot be asked.
        """
        for kind in (SENSOR, RULE):
            if not await self.client.serves(kind):
                raise ClusterError(
                    f"Kubernetes does not serve {kind.plural}.{kind.group} yet; install the CustomResourceDefinitions "
                    "(deploy/crds, or the chart with crds.install)"
                )

    def watches(self, observers: Observers) -> Watches:
        """Create watch streams for ``observers``."""
        return Watches(
            observers,
            access=self.client.access,
            namespaces=self._namespaces,
            sensor_namespaces=self._sensor_namespaces,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()


async def connect(settings: Settings) -> KubernetesBackend:
    """The cluster of the environment (:func:`~attune_operator.runtime.kube_client.load_access`).

    Raises:
        ClusterError: none is configured.
    """
    return KubernetesBackend(
        KubeClient(load_access()),
        namespaces=settings.watch_namespaces,
        sensor_namespaces=settings.sensor_namespaces,
    )
