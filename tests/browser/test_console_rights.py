"""The console before a real kube-apiserver, in a real Chromium, for people with few rights."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support.console_checks import RightsChecks, RightsStage
from support.console_cluster import Kubernetes, console, kubernetes

pytest_plugins = ["support.console_fixtures"]
pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(600)]


@dataclass(kw_only=True)
class Alone(RightsStage):
    """There is a kube-apiserver, and no node."""

    cluster: Kubernetes

    def reader(self, name: str) -> str:
        self.cluster.account(name, verbs=["get", "list", "watch"], within=self.one)
        return self.cluster.token(name)

    def withdraw(self, name: str) -> None:
        self.cluster.request("DELETE", f"/api/v1/namespaces/team-a/serviceaccounts/{name}")


@pytest.fixture(scope="module")
def rights_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RightsStage]:
    with kubernetes(tmp_path_factory.mktemp("kubernetes")) as cluster:
        cluster.rule("team-a", "steady")
        cluster.rule("team-b", "astray", trigger="acme.nothing")
        with console(tmp_path_factory.mktemp("api"), cluster) as api:
            yield Alone(url=api.url, one="team-a", other="team-b", cluster=cluster)


class TestRights(RightsChecks):
    """By the RBAC of a kube-apiserver."""
