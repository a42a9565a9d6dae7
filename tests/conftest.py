"""Fixtures that start the real thing: a NATS server, a kube-apiserver with etcd."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support import eventually
from support.nats_server import NatsServer

from attune_local import ports

# The same examples in every run, and none too slow: whether a change lands depends on the change, not on the dice or on what
# else the machine does. HYPOTHESIS_PROFILE=search looks for new ones.
_UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("same", _UNHURRIED, derandomize=True)
settings.register_profile("search", _UNHURRIED, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_configure(config: pytest.Config) -> None:
    """Keep each worker (pytest-xdist) to ports of its own."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        ports.keep_to(int(worker["workerid"].removeprefix("gw")), of=worker["workercount"])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have waits end as they say in tests that measure time."""
    eventually.measure_time(item.get_closest_marker("alone") is not None or "soak" in item.path.parts)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what is marked ``last`` after everything else, by its ``rank``; the sort keeps the order of all others.

    With workers (pytest-xdist) that holds for the tests of each worker.
    """

    def rank(item: pytest.Item) -> int:
        marker = item.get_closest_marker("last")
        return 0 if marker is None else int(marker.kwargs["rank"])

    items.sort(key=rank)


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS server of this test's own."""
    directory = tmp_path / "nats"
    directory.mkdir()
    server = NatsServer(directory)
    server.start()
    yield server
    server.stop()
