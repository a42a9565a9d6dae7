"""A port of this machine that leads to a pod's: what a browser sees when the API server answers late."""

import socket
from collections.abc import Iterator
from contextlib import closing
from threading import Thread
from typing import Any

import httpcore
import pytest

from attune_cli.targets.tunnel import Tunnel


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets, for one connection."""

    def serve(listener: socket.socket) -> None:
        near, _ = listener.accept()
        with closing(near):
            while data := near.recv(1024):
                near.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = Thread(target=serve, args=(listener,), daemon=True)
        serving.start()
        yield listener.getsockname()[1]


class Pod:
    """Connections to a pod, the first of which are not answered in time."""

    def __init__(self, port: int, *, late: int) -> None:
        self.port = port
        self.late = late
        self.tries = 0

    def connect_tcp(self, host: str, port: int, timeout: float | None = None) -> httpcore.NetworkStream:
        self.tries += 1
        if self.tries <= self.late:
            raise httpcore.ConnectTimeout("port-forward was not answered in time")
        return httpcore.SyncBackend().connect_tcp("127.0.0.1", self.port, timeout=timeout)


def answered(pod: Any) -> bytes:
    """What comes back for a word that is sent through a tunnel; nothing if the connection is closed."""
    with Tunnel(pod, secure=False) as tunnel:
        port = int(tunnel.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as near:
            try:
                near.sendall(b"word")
                return near.recv(4)
            except ConnectionResetError:
                return b""


def test_what_is_not_answered_in_time_is_tried_again(echo: int) -> None:
    pod = Pod(echo, late=2)
    assert answered(pod) == b"word"
    assert pod.tries == 3


def test_after_three_tries_the_connection_is_closed(echo: int) -> None:
    pod = Pod(echo, late=10)
    assert answered(pod) == b""
    assert pod.tries == 3
