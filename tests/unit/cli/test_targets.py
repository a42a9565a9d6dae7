"""Which system is asked, and how a kubeconfig is read."""

import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest
import yaml
from support.certificates import Authority
from support.http_server import Request, served
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from attune_cli.errors import RefusedError, UnreachableError, UsageError
from attune_cli.session import Session
from attune_cli.targets import portforward
from attune_cli.targets.api import Api
from attune_cli.targets.choose import Target, TargetOptions, api_pod, choose, find_data_dir
from attune_cli.targets.kube import Kube
from attune_cli.targets.pages import Pages, Part
from attune_cli.targets.portforward import PodPort, PodTransport
from attune_contract.local import Endpoint, Endpoints, write_endpoints
from attune_kit.kubernetes.access import Access

# -- which system


def kubeconfig_file(path: Path, **user: Any) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team-a"}}],
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1/"}}],
                "users": [{"name": "u", "user": user or {"token": "t"}}],
            }
        )
    )
    return path


def running(folder: Path, pid: int = 1) -> Path:
    data = folder / ".attune"
    data.mkdir(parents=True)
    endpoint = Endpoint(url="http://127.0.0.1:1", token_file=str(data / "token"))
    write_endpoints(data, Endpoints(pid=pid, kubernetes=endpoint, api=endpoint))
    return data


def chosen(options: TargetOptions, folder: Path, *, alive: bool = True, **environment: str) -> Target:
    target = choose(options, folder=folder, environment={"HOME": "/nonexistent", **environment}, alive=lambda _: alive)
    target.close()
    return target


def test_what_runs_here_goes_before_the_kubeconfig(tmp_path: Path) -> None:
    data = running(tmp_path)
    config = kubeconfig_file(tmp_path / "config")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_data_dir(below) == data
    target = chosen(TargetOptions(), below, KUBECONFIG=str(config))
    assert (target.kind, target.namespace) == ("local", None)
    assert (str(data) in target.name, target.why) == (True, "it runs here")


def test_what_was_left_by_one_that_ended_does_not(tmp_path: Path) -> None:
    running(tmp_path)
    config = kubeconfig_file(tmp_path / "config")
    target = chosen(TargetOptions(), tmp_path, alive=False, KUBECONFIG=str(config))
    assert (target.kind, target.name, target.namespace) == ("cluster", "https://127.0.0.1:1", "team-a")
    with pytest.raises(UnreachableError, match="does not run, or is still starting, and there is no kubeconfig"):
        chosen(TargetOptions(), tmp_path, alive=False)


def test_flags_go_before_everything(tmp_path: Path) -> None:
    data = running(tmp_path)
    config = kubeconfig_file(tmp_path / "config")
    assert chosen(TargetOptions(kubeconfig=config), tmp_path).kind == "cluster"
    assert chosen(TargetOptions(data_dir=data), Path("/"), KUBECONFIG=str(config)).kind == "local"
    with pytest.raises(UsageError, match="not both"):
        chosen(TargetOptions(data_dir=data, kubeconfig=config), tmp_path)


def test_as_a_plugin_of_kubectl_it_asks_kubectls_cluster(tmp_path: Path) -> None:
    running(tmp_path)
    config = kubeconfig_file(tmp_path / "config")
    assert chosen(TargetOptions(as_plugin=True), tmp_path, KUBECONFIG=str(config)).kind == "cluster"


def test_nothing_to_ask_says_what_can_be_done(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"attune up DIR.*--kubeconfig"):
        chosen(TargetOptions(), tmp_path)


@pytest.mark.parametrize(
    ("reference", "namespace", "place"),
    [("a", None, ("default", "a")), ("a", "x", ("x", "a")), ("x/a", None, ("x", "a")), ("x/a", "x", ("x", "a"))],
)
def test_names_have_their_namespace_before_them_or_in_the_flag(
    tmp_path: Path, reference: str, namespace: str | None, place: tuple[str, str]
) -> None:
    session = Session(TargetOptions(data_dir=running(tmp_path, os.getpid())))
    assert session.place(reference, namespace) == place
    session.close()


# -- a kubeconfig (tests/unit/kit/test_kubernetes_access.py)


def test_a_kubeconfig_that_cannot_be_used_is_a_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("clusters: 5")
    with pytest.raises(UsageError, match="config is no kubeconfig"):
        chosen(TargetOptions(kubeconfig=tmp_path / "config"), tmp_path)
    with pytest.raises(UsageError, match="There is no kubeconfig"):
        chosen(TargetOptions(kubeconfig=tmp_path / "none"), tmp_path)


def test_a_plugin_that_fails_is_a_refusal(tmp_path: Path) -> None:
    config = kubeconfig_file(tmp_path / "config", exec={"command": "false"})
    with pytest.raises(RefusedError, match="plugin false failed"):
        chosen(TargetOptions(kubeconfig=config), tmp_path)


# -- port-forward


def pod(name: str, *, ready: str = "True", **probe: str) -> dict[str, Any]:
    container = {"ports": [{"name": "http", "containerPort": 8000}], "readinessProbe": {"httpGet": probe}}
    return {
        "metadata": {"name": name},
        "spec": {"containers": [container]},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def test_a_ready_pod_of_the_api_is_chosen() -> None:
    assert api_pod([pod("a", ready="False"), pod("b"), pod("c")], "x") == ("b", 8000, False)
    assert api_pod([pod("a", scheme="HTTPS")], "x") == ("a", 8000, True)
    both = pod("a")
    both["spec"]["containers"][0]["ports"].append({"name": "https", "containerPort": 8443})
    assert api_pod([both], "x") == ("a", 8443, True)
    with pytest.raises(UnreachableError, match="not ready: see `kubectl describe pod -n x a`"):
        api_pod([pod("a", ready="False")], "x")
    with pytest.raises(UnreachableError, match="--system-namespace"):
        api_pod([], "x")


def _hello(request: Request) -> tuple[int, bytes]:
    return 200, json.dumps({"token": request.headers["authorization"], "length": len(request.body)}).encode()


def _metrics(request: Request) -> tuple[int, bytes]:
    return 200, f"attune_x 1.0\npath {request.path}\n".encode()


def _does_not_know(_: Request) -> tuple[int, bytes]:
    return 501, b""


def tls(folder: Path, secure: bool) -> ssl.SSLContext | None:
    """A server's side of TLS with a certificate that nobody knows; nothing if it is not ``secure``."""
    if not secure:
        return None
    for name, pem in zip(("crt", "key"), Authority().issue("localhost"), strict=True):
        (folder / name).write_text(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt", folder / "key")
    return context


@contextmanager
def forwarding(port: int) -> Iterator[tuple[str, list[str]]]:
    """What kube-apiserver and kubelet do with a port-forward, with a program of this machine as the pod."""
    asked: list[str] = []

    def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        asked.append(f"{connection.request.path} {connection.request.headers['authorization']}")
        number = (8000).to_bytes(2, "little")
        connection.send(b"\x00" + number)
        connection.send(b"\x01" + number)
        with socket.create_connection(("127.0.0.1", port)) as upstream:

            def back() -> None:
                with suppress(ConnectionClosed, OSError):  # the other end was closed first
                    while data := upstream.recv(1000):  # small pieces, so that one answer is several messages
                        connection.send(b"\x00" + data)

            thread = threading.Thread(target=back, daemon=True)
            thread.start()
            for message in connection:
                assert isinstance(message, bytes)
                assert message[:1] == b"\x00"
                upstream.sendall(message[1:])
            # The thread must have ended before its socket is closed.
            with suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)
            thread.join()

    with serve(handle, "127.0.0.1", 0, subprotocols=["v4.channel.k8s.io"], compression=None) as server:  # type: ignore[list-item]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("secure", [False, True])
def test_requests_reach_the_pod_by_port_forward_with_their_token(tmp_path: Path, secure: bool) -> None:
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    with served(_hello, tls(tmp_path, secure)) as port, forwarding(port) as (server, asked):
        access = Access(server=server, verify=anyone, bearer=lambda: "of-the-cluster")
        transport = PodTransport(PodPort(access, namespace="attune-system", pod="api-1", port=8000), verify=anyone)
        scheme = "https" if secure else "http"
        api = Api(f"{scheme}://api-1", bearer=lambda: "of-the-api", signed_in="a test", transport=transport)
        for length in (10, 300_000):  # the second is several messages
            said = api.request("POST", "/x", content=b"x" * length)
            assert said == {"token": "Bearer of-the-api", "length": length}
        api.close()
    path = "/api/v1/namespaces/attune-system/pods/api-1/portforward?ports=8000"
    assert asked == [f"{path} Bearer of-the-cluster"]  # one connection for both requests


@pytest.mark.parametrize("secure", [False, True])
def test_pages_of_pods_are_read_by_port_forward(tmp_path: Path, secure: bool) -> None:
    part = Part(role="sensor", name="team/sensor-1", ports={"/ready": 8080, "/metrics": 8080}, secure=secure)
    with served(_metrics, tls(tmp_path, secure)) as port, forwarding(port) as (server, asked):
        access = Access(server=server, verify=ssl.create_default_context(), bearer=lambda: "of-the-cluster")
        kube = Kube(access)
        target = Target(kind="cluster", name="x", why="x", namespace=None, kube=kube, _make_api=lambda: _api(None))
        pages = Pages(target)
        try:
            for path in ("/ready", "/metrics"):
                page = pages.read(part, path)
                assert (page.status, page.text) == (200, f"attune_x 1.0\npath {path}\n")
                assert page.ahead is not None
                assert abs(page.ahead) < timedelta(minutes=5)
            with pytest.raises(UnreachableError, match="has no port for /readyz"):
                pages.read(part, "/readyz")
        finally:
            pages.close()
            target.close()
    # One connection for both pages.
    assert asked == ["/api/v1/namespaces/team/pods/sensor-1/portforward?ports=8080 Bearer of-the-cluster"]


def test_a_port_forward_that_is_refused_says_why(tmp_path: Path) -> None:
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with served(_does_not_know) as port:
        access = Access(server=f"http://127.0.0.1:{port}", verify=nobody, bearer=lambda: None)
        transport = PodTransport(PodPort(access, namespace="n", pod="p", port=1), verify=nobody)
        with httpx.Client(transport=transport) as client, pytest.raises(httpx.ConnectError, match="answered with 501"):
            client.get("http://p/")


def _api(answer: Any) -> Api:
    return Api("http://api", bearer=lambda: "token", signed_in="a test", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize("error", [httpx.ReadTimeout("stalled"), httpx.RemoteProtocolError("ended")])
def test_what_only_reads_is_asked_again_when_a_tunnel_stalls(error: httpx.TransportError) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if len(asked) == 1:
            raise error
        return httpx.Response(200, json={"data": []})

    assert _api(answer).request("GET", "/api/v1/events") == {"data": []}
    assert asked == ["GET", "GET"]


def test_the_apis_health_is_asked_again_when_a_tunnel_stalls() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if len(asked) == 1:
            raise httpx.ReadTimeout("stalled")
        return httpx.Response(200, json={"status": "ok"})

    assert _api(answer).ready() == {"status": "ok"}
    assert asked == ["/ready", "/ready"]


def test_what_changes_something_is_asked_once() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        raise httpx.ReadTimeout("stalled")

    with pytest.raises(UnreachableError, match="gave no answer in time"):
        _api(answer).request("POST", "/api/v1/runs/retry")
    assert asked == ["POST"]


def test_a_tunnel_that_is_not_opened_in_time_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, late = threading.Event(), threading.Event()

    class Connection:
        def close(self) -> None:
            late.set()

    def connect(*_given: object, **_options: object) -> Connection:
        hangs.wait(60)
        return Connection()

    monkeypatch.setattr(portforward, "connect", connect)
    access = Access(server="https://api.example:6443", verify=ssl.create_default_context(), bearer=lambda: None)
    port = PodPort(access, namespace="n", pod="p", port=80)
    with pytest.raises(httpcore.ConnectTimeout, match="not answered in time"):
        port.connect_tcp("api", 80, timeout=0.1)
    hangs.set()
    assert late.wait(60), "what was opened too late is closed"
