"""Connections to a port of a pod, through the API server, without a port being opened on this machine.

One WebSocket for each connection: in each message the first byte is the channel, 0 for data and 1 for an error's text, and the
first message of each channel is the port's number (Kubernetes, ``pkg/kubelet/cri/streaming/portforward/websocket.go``).

(The API server's service proxy would be simpler, but it takes the Authorization header for itself, and our API wants one.)
"""

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Final
from urllib.parse import quote

import httpcore
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from attune_cli.targets.api import no_certificates
from attune_cli.targets.httpx_client import httpx
from attune_kit.kubernetes.access import Access

_PROTOCOL: Final = Subprotocol("v4.channel.k8s.io")
_DATA, _ERROR = b"\x00", b"\x01"
_CHUNK: Final = 64 * 1024
_OPEN_TIMEOUT: Final = 10.0
#: Seconds for websockets to notice its own timeout.
_MARGIN: Final = 0.5


class PodPort(httpcore.NetworkBackend):
    """Makes connections to a pod's port, whatever host is asked for.

    Args:
        access: the cluster.
        namespace: of the pod.
        pod: its name.
        port: the container's port.
    """

    def __init__(self, access: Access, *, namespace: str, pod: str, port: int) -> None:
        self._access = access
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/portforward?ports={port}"
        self._url = access.server.replace("http", "ws", 1) + path

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Called by httpcore."""
        headers = dict(self._access.headers)
        if (token := self._access.bearer()) is not None:
            headers["Authorization"] = f"Bearer {token}"
        secure = self._url.startswith("wss:")
        within = timeout or _OPEN_TIMEOUT
        try:
            socket = _within(
                within + _MARGIN,
                connect,
                self._url,
                legacy=True,  # outlives this function: the stream closes it
                subprotocols=[_PROTOCOL],
                additional_headers=headers,
                ssl=self._access.verify if secure else None,
                server_hostname=self._access.server_name if secure else None,
                proxy=self._access.proxy or True,
                compression=None,
                open_timeout=within,
                ping_interval=None,  # kubelet is not obliged to answer them
                close_timeout=1,
                max_size=None,
            )
        except InvalidStatus as error:
            text = error.response.body or b""
            raise httpcore.ConnectError(
                f"port-forward was answered with {error.response.status_code}: {bytes(text).decode(errors='replace')[:200]}"
            ) from error
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("port-forward was not answered in time") from error
        except (OSError, WebSocketException) as error:
            raise httpcore.ConnectError(f"port-forward failed: {error}") from error
        return _Stream(socket)


def _within(seconds: float, call: Callable[..., ClientConnection], *given: Any, **options: Any) -> ClientConnection:
    """What ``call`` returns, but no later than in so many seconds.

    websockets joins the thread that reads when a handshake was not answered in time. Over TLS that thread may hang in a read
    until the API server gives up, which takes half a minute.

    Raises:
        TimeoutError: it took longer. It goes on in a thread that holds nothing up.
    """
    outcome: Future[ClientConnection] = Future()

    def run() -> None:
        try:
            made = call(*given, **options)
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(made)

    threading.Thread(target=run, daemon=True, name="port-forward").start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        outcome.add_done_callback(_close_late)
        raise


def _close_late(outcome: "Future[ClientConnection]") -> None:
    if outcome.exception() is None:
        outcome.result().close()


class _Stream(httpcore.NetworkStream):
    """The data of one connection."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._begun: set[bytes] = set()
        self._held = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Up to so many bytes; none at the end."""
        while not self._held:
            try:
                message = self._socket.recv(timeout)
            except TimeoutError as error:
                raise httpcore.ReadTimeout("nothing came in time") from error
            except ConnectionClosed:
                return b""
            message = message.encode() if isinstance(message, str) else message
            channel, content = message[:1], message[1:]
            if channel not in self._begun:
                self._begun.add(channel)
                content = content[2:]  # the port's number
            if channel == _ERROR and content:
                raise httpcore.ReadError(f"port-forward: {content.decode(errors='replace').strip()}")
            if channel == _DATA:
                self._held = content
        given, self._held = self._held[:max_bytes], self._held[max_bytes:]
        return given

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send everything."""
        try:
            for start in range(0, len(buffer), _CHUNK):
                self._socket.send(_DATA + buffer[start : start + _CHUNK])
        except ConnectionClosed as error:
            raise httpcore.WriteError("the connection to the pod ended") from error

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(Exception):
            self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """TLS on top, with the pod."""
        return _TlsStream(self, ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        """Nothing more is known."""
        return None


class _TlsStream(httpcore.NetworkStream):
    """TLS over a stream that is no socket."""

    def __init__(
        self, under: _Stream, context: ssl.SSLContext, server_hostname: str | None, timeout: float | None
    ) -> None:
        self._under = under
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._turn = threading.Lock()  # a tunnel reads in one thread and writes in another
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        try:
            self._perform(self._tls.do_handshake, timeout)
        except ssl.SSLError as error:
            raise httpcore.ConnectError(str(error)) from error

    def _perform(self, action: Any, timeout: float | None, *arguments: Any) -> Any:
        while True:
            with self._turn:
                try:
                    result, waits = action(*arguments), False
                except ssl.SSLWantReadError:
                    result, waits = None, True
                self._flush(timeout)
            if not waits:
                return result
            received = self._under.read(_CHUNK, timeout)
            with self._turn:
                if received:
                    self._incoming.write(received)
                else:
                    self._incoming.write_eof()

    def _flush(self, timeout: float | None) -> None:
        if self._outgoing.pending:
            self._under.write(self._outgoing.read(), timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Up to so many bytes; none at the end."""
        try:
            received: bytes = self._perform(self._tls.read, timeout, max_bytes)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except ssl.SSLError as error:
            raise httpcore.ReadError(str(error)) from error
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send everything."""
        if buffer:
            try:
                self._perform(self._tls.write, timeout, buffer)
            except ssl.SSLError as error:
                raise httpcore.WriteError(str(error)) from error

    def close(self) -> None:
        """End the connection."""
        self._under.close()

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks to know whether HTTP/2 was agreed on."""
        return self._tls if info == "ssl_object" else None


class PodTransport(httpx.HTTPTransport):
    """httpx over connections to a pod."""

    def __init__(self, backend: PodPort, *, verify: ssl.SSLContext) -> None:
        super().__init__(verify=verify, trust_env=False)
        # httpx has no parameter for the backend of its connections; its pool has.
        self._pool = httpcore.ConnectionPool(ssl_context=verify, network_backend=backend, max_connections=4)


def pod_transport(access: Access, *, namespace: str, pod: str, port: int) -> PodTransport:
    """Requests to a pod's port, by TLS where the URL says ``https``.

    The cluster vouches for the pod: the connection goes through its API server and the node's kubelet. So the certificate, whose
    authority only the cluster may know, is not checked again.

    Args:
        access: the cluster.
        namespace: of the pod.
        pod: its name.
        port: the container's port.
    """
    verify = no_certificates()
    verify.check_hostname = False  # first: ssl takes no CERT_NONE while names are checked
    verify.verify_mode = ssl.CERT_NONE
    return PodTransport(PodPort(access, namespace=namespace, pod=pod, port=port), verify=verify)
