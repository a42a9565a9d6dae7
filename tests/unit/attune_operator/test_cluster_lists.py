"""Lists of namespaces in which the operator lacks a right."""

from typing import Any, cast

import pytest

from attune_operator.resources.kinds import SECRET, SERVICE, Kind
from attune_operator.runtime import cluster as module
from attune_operator.runtime.client import Client, ClusterError
from attune_operator.runtime.cluster import KubeCluster


class Warnings(list[tuple[str, str]]):
    """What was warned of: namespace and resource."""

    def warning(self, event: str, *, namespace: str, resource: str, error: str) -> None:
        assert (event, error) == ("sensor_objects_not_listed", "cannot list resource")
        self.append((namespace, resource))


class Refusing:
    """Lists nothing, and refuses Secrets in the namespace ``b`` while ``refuses``."""

    def __init__(self) -> None:
        self.refuses = True

    async def list_objects(self, kind: Kind, namespace: str | None = None, **_: Any) -> list[Any]:
        if self.refuses and (kind, namespace) == (SECRET, "b"):
            raise ClusterError("cannot list resource", status=403)
        return []

    async def get(self, *_: Any) -> dict[str, Any]:
        return {}


async def test_a_list_that_is_refused_is_said_once_while_other_lists_of_the_namespace_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = Warnings()
    monkeypatch.setattr(module, "_log", said)
    client = Refusing()
    cluster = KubeCluster(cast("Client", client), recorder=cast("Any", None), sensor_namespaces=("a", "b"))

    async def sweeps() -> None:
        for _ in range(3):
            for kind in (SECRET, SERVICE):
                assert await cluster.list_all(kind) == []

    await sweeps()
    assert said == [("b", "secrets")]
    client.refuses = False
    await sweeps()
    client.refuses = True
    await sweeps()
    assert said == [("b", "secrets")] * 2
