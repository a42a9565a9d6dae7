"""End-to-end tests: all on the cluster, with the chart installed."""

import pytest
from support.system_fixtures import api, chart, kube, pack, system

__all__ = ["api", "chart", "kube", "pack", "system"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/e2e/" in str(item.path):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(420))
