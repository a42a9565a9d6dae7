"""TLS switched on and off again under running sensors."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from support.certificates import Authority
from support.eventually import eventually
from support.system import REPOSITORY, SYSTEM, System

CHART = str(REPOSITORY / "deploy" / "helm" / "attune")
pytestmark = pytest.mark.last(rank=1, reason="restarts every part twice")
NAMES = [f"attune-{part}.{SYSTEM}.svc" for part in ("api", "nats")]


@pytest.fixture
def authority(system: System) -> Iterator[Authority]:
    """TLS on, with a certificate of this authority; off afterwards."""
    made = Authority()
    certificate, key = made.issue(*NAMES)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "attune-e2e-tls", "namespace": SYSTEM},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": certificate, "tls.key": key, "ca.crt": made.pem},
    }
    system.kube.apply(secret)
    try:
        switch(system, "--set", "tls.enabled=true", "--set", "tls.existingSecret=attune-e2e-tls")
        yield made
    finally:
        switch(system, "--set", "tls.enabled=false")
        system.kube.delete("secret", "attune-e2e-tls", SYSTEM)
        system.api.close()


def switch(system: System, *values: str) -> None:
    system.kube.run_helm("upgrade", "attune", CHART, "-n", SYSTEM, "--reuse-values", *values)
    system.kube("rollout", "status", "deployment/attune-operator", "-n", SYSTEM, "--timeout=180s")
    for kind in ("statefulset/attune-nats", "deployment/attune-api"):
        system.kube("rollout", "status", kind, "-n", SYSTEM, "--timeout=180s")


def test_sensors_go_on_over_tls(system: System, authority: Authority) -> None:
    rule = system.rule("encrypted", parameters={"interval": 1})
    rule.wait_condition("Active", "True", within=90)
    context = ssl.create_default_context(cadata=authority.pem)
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
