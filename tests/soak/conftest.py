"""Tests that take long, on the cluster: `make soak`. Their figures are kept in docs/soak.md."""

import pytest
from support.system_fixtures import api, chart, kube, pack, system

__all__ = ["api", "chart", "kube", "pack", "system"]


@pytest.fixture(scope="session")
def backend() -> str:
    """Where the system is that the tests use."""
    return "cluster"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/soak/" in str(item.path):
            item.add_marker(pytest.mark.timeout(1800))
