"""End-to-end tests on a cluster with the chart installed; those marked ``both`` also under ``attune up``, without a cluster.

``pytest tests/e2e -m local`` runs the latter alone (``make e2e-local``).
"""

import pytest
from support.system_fixtures import api, chart, kube, local, pack, system

__all__ = ["api", "chart", "kube", "local", "pack", "system"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "system" not in metafunc.fixturenames:
        return
    backends = [pytest.param("cluster", marks=pytest.mark.cluster)]
    if metafunc.definition.get_closest_marker("both") is not None:
        backends.append(pytest.param("local", marks=pytest.mark.local))
    metafunc.parametrize("backend", backends, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/e2e/" in str(item.path) and item.get_closest_marker("local") is None:
            item.add_marker(pytest.mark.cluster)
