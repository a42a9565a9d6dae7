"""TLS is the default of the chart: everything of ours uses it, and clients from before are taken, too."""

import json
import socket

from support.eventually import eventually
from support.kubectl import Manifest
from support.system import SYSTEM, Api, System, authority


def environment_of(pod: Manifest) -> dict[str, str]:
    return {
        entry["name"]: entry.get("value", "")
        for container in pod["spec"]["containers"]
        for entry in container.get("env", ())
    }


def test_everything_of_ours_uses_tls(system: System) -> None:
    rule = system.rule("encrypted", parameters={"interval": 1})
    rule.wait_condition("Active", "True", within=90)
    pods = system.kube.list("pods", SYSTEM, "app.kubernetes.io/instance=attune")
    urls = {
        value
        for pod in [*pods, system.wait_ready_pod("core.timer", SYSTEM)]
        for name, value in environment_of(pod).items()
        if name.startswith("ATTUNE_") and name.endswith(("NATS_URL", "API_URL"))
    }
    assert urls == {f"tls://attune-nats.{SYSTEM}.svc:4222", f"https://attune-api.{SYSTEM}.svc:443"}
    rule.wait_events(lambda events: len(events) >= 2, within=30)


def test_a_client_from_before_reads_by_plain_http(system: System) -> None:
    old = Api(system.kube, system.api.token, secure=False)
    try:
        assert old.request("GET", "/api/v1/events", params={"limit": "1"}).status_code == 200
    finally:
        old.close()


def test_nats_has_the_certificate_and_refuses_strangers_over_tls_too(system: System) -> None:
    trusted = authority(system.kube)

    def answers() -> tuple[bool, bytes]:
        with (
            system.kube.port_forward("service/attune-nats", 4222, SYSTEM) as port,
            socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        ):
            with plain.makefile("rb", buffering=0) as greeting:
                info = json.loads(greeting.readline().removeprefix(b"INFO "))
            with (
                trusted.wrap_socket(plain, server_hostname=f"attune-nats.{SYSTEM}.svc") as secure,
                secure.makefile("rwb") as stream,
            ):
                stream.write(b'CONNECT {"verbose": true}\r\nSUB attune.> 1\r\n')
                stream.flush()
                return info.get("tls_required", False), stream.readline()

    def refused() -> bool:
        required, answer = answers()
        assert b"Authentication Timeout" not in answer  # whoever takes more than two seconds is refused for that
        assert answer, "the tunnel ended before the answer came"
        return (required, answer) == (False, b"-ERR 'Authorization Violation'\r\n")

    eventually(refused, within=60, what="the server refuses a stranger")
