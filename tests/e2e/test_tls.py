"""TLS switched on and off again under running sensors, with a certificate that the operator makes."""

import base64
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from support.eventually import eventually
from support.system import REPOSITORY, SYSTEM, System

CHART = str(REPOSITORY / "deploy" / "helm" / "attune")
pytestmark = pytest.mark.last(rank=1, reason="restarts every part twice")


@pytest.fixture
def authority(system: System) -> Iterator[str]:
    """TLS on; returns the authority (PEM). Off afterwards."""
    try:
        switch(system, "--set", "tls.enabled=true")
        secret = system.kube.get("secret", "attune-tls", SYSTEM)
        yield base64.b64decode(secret["data"]["ca.crt"]).decode()
    finally:
        switch(system, "--set", "tls.enabled=false")
        for name in ("attune-tls", "attune-tls-authority"):
            system.kube.delete("secret", name, SYSTEM)
        system.api.close()


def switch(system: System, *values: str) -> None:
    system.kube.run_helm("upgrade", "attune", CHART, "-n", SYSTEM, "--reuse-values", *values)
    system.kube("rollout", "status", "deployment/attune-operator", "-n", SYSTEM, "--timeout=180s")
    for kind in ("statefulset/attune-nats", "deployment/attune-api"):
        system.kube("rollout", "status", kind, "-n", SYSTEM, "--timeout=180s")


def test_sensors_go_on_over_tls(system: System, authority: str) -> None:
    rule = system.rule("encrypted", parameters={"interval": 1})
    rule.wait_condition("Active", "True", within=90)
    context = ssl.create_default_context(cadata=authority)
    context.check_hostname = False  # port-forward: the name is localhost

    def ask(path: str, scheme: str = "https", **options: Any) -> httpx.Response:
        # Its own tunnel each time: one may stall or end.
        with system.kube.port_forward("service/attune-api", 80, SYSTEM) as port:
            return httpx.get(f"{scheme}://127.0.0.1:{port}{path}", verify=context, timeout=30, **options)

    eventually(lambda: ask("/health").status_code == 200, within=60, what="the API answers over TLS")
    with pytest.raises(httpx.TransportError):
        ask("/health", "http")
    now, uid = datetime.now(UTC), rule.uid

    def late() -> bool:
        answer = ask(
            "/api/v1/events",
            params={"rule_uid": uid, "occurred_after": (now + timedelta(seconds=2)).isoformat()},
            headers={"Authorization": f"Bearer {system.api.token}"},
        )
        return answer.status_code == 200 and len(answer.json()["data"]) >= 2

    eventually(late, within=30, what="events that came over TLS")
