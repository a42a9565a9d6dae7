"""Fixtures that start the real thing: a NATS server, a kube-apiserver with etcd."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.nats_server import NatsServer


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS server of this test's own."""
    directory = tmp_path / "nats"
    directory.mkdir()
    server = NatsServer(directory)
    server.start()
    yield server
    server.stop()
