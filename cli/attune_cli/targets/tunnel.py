"""A port of this machine, on loopback, that leads to a pod's: what ``kubectl port-forward`` does, for a browser.

Each connection of the browser is one through the API server (:mod:`attune_cli.targets.portforward`). Where the pod speaks TLS,
TLS ends here: the cluster vouches for the pod, and what goes on does not leave this machine.
"""

import contextlib
import socket
import ssl
import threading
from typing import Final, Self

import httpcore

from attune_cli.targets.api import no_certificates
from attune_cli.targets.portforward import PodPort

_CHUNK: Final = 64 * 1024
#: Connections at once; a browser opens six to a host.
_MOST: Final = 64
#: Seconds that each try to reach the pod gets. Now and then the API server does not answer a try, and does the next.
_CONNECT: Final = (3.0, 5.0, 10.0)


class Tunnel:
    """The port, open while the context lasts.

    Args:
        pod: makes connections to the pod's port.
        secure: whether the pod speaks TLS there.
        port: of this machine; 0 for any that is free.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, pod: PodPort, *, secure: bool, port: int = 0) -> None:
        self._pod = pod
        self._secure = secure
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open = threading.BoundedSemaphore(_MOST)

    @property
    def url(self) -> str:
        """Where the browser goes."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True, name="tunnel").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            self._open.acquire()
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._carry, args=(near,), daemon=True, name="tunnel connection").start()

    def _carry(self, near: socket.socket) -> None:
        """Pass on what comes from both sides, until one of them ends."""
        try:
            with near:
                try:
                    far = self._connect()
                except httpcore.ConnectError:
                    return  # the browser sees a closed connection, and tries again
                try:
                    threading.Thread(target=self._back, args=(near, far), daemon=True, name="tunnel answers").start()
                    with contextlib.suppress(OSError, httpcore.NetworkError):
                        while data := near.recv(_CHUNK):
                            far.write(data)
                finally:
                    far.close()
        finally:
            self._open.release()

    def _connect(self) -> httpcore.NetworkStream:
        """A connection to the pod; nothing was sent yet, so it can be tried again.

        Raises:
            httpcore.ConnectError: it was refused, or no try was answered in time.
        """
        for within in _CONNECT:
            with contextlib.suppress(httpcore.ConnectTimeout):
                return self._secured(self._pod.connect_tcp("pod", 0, timeout=within), within)
        raise httpcore.ConnectError(f"{len(_CONNECT)} tries were not answered in time")

    def _secured(self, far: httpcore.NetworkStream, within: float) -> httpcore.NetworkStream:
        if not self._secure:
            return far
        context = no_certificates()
        context.check_hostname = False  # first: ssl takes no CERT_NONE while names are checked
        context.verify_mode = ssl.CERT_NONE
        return far.start_tls(context, "pod", within)

    @staticmethod
    def _back(near: socket.socket, far: httpcore.NetworkStream) -> None:
        with contextlib.suppress(OSError, httpcore.NetworkError):
            while data := far.read(_CHUNK):
                near.sendall(data)
        with contextlib.suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)
