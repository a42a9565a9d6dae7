"""What the chart makes of `tls.enabled`: by default TLS and who comes without, TLS alone, and none."""

import json
import re
from typing import Any

import pytest
from support.helm_chart import Manifest, template

OWN_NATS = ("nats.enabled=false", "nats.externalUrl=nats://nats.example:4222")
HTTPS, TLS = "https://attune-api.attune-system.svc:443", "tls://attune-nats.attune-system.svc:4222"
PARTS = ("operator", "api", "actions")


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    [found] = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    return found


def container(manifests: list[Manifest], part: str) -> Any:
    [found] = one(manifests, "Deployment", f"attune-{part}")["spec"]["template"]["spec"]["containers"]
    return found


def env(manifests: list[Manifest], part: str) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container(manifests, part)["env"]}


def ports(manifests: list[Manifest]) -> dict[str, tuple[int, int, str]]:
    """Of the API's Service by their names: the number, that of the container to which it leads, and its protocol."""
    numbers = {port["name"]: port["containerPort"] for port in container(manifests, "api")["ports"]}
    return {
        port["name"]: (port["port"], numbers[port["targetPort"]], port["appProtocol"])
        for port in one(manifests, "Service", "attune-api")["spec"]["ports"]
    }


def probes(manifests: list[Manifest]) -> set[tuple[str, str]]:
    """Ports and schemes of the API's probes."""
    found = (container(manifests, "api")[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness"))
    return {(probe["port"], probe.get("scheme", "HTTP")) for probe in found}


def nats_settings(manifests: list[Manifest]) -> str:
    return re.sub(r"#.*", "", one(manifests, "ConfigMap", "attune-nats")["data"]["nats.conf"])


def urls(manifests: list[Manifest]) -> set[str]:
    """Where our programs, and Sensors, are told to find the API and NATS."""
    return {
        value
        for part in PARTS
        for name, value in env(manifests, part).items()
        if name.endswith(("NATS_URL", "API_URL"))
    }


def test_by_default_ours_use_tls_and_clients_from_before_go_on() -> None:
    manifests = template()
    assert ports(manifests) == {"https": (443, 8443, "https"), "http": (80, 8000, "http")}
    settings = env(manifests, "api")
    assert (settings["ATTUNE_API_PORT"], settings["ATTUNE_API_TLS_PORT"]) == ("8000", "8443")
    assert urls(manifests) == {HTTPS, TLS}
    assert "tls {" in nats_settings(manifests)
    assert "allow_non_tls: true" in nats_settings(manifests)
    # A command line from before finds the port by its name, and takes the readiness probe's scheme for the port's.
    assert probes(manifests) == {("http", "HTTP")}
    [rule] = one(manifests, "NetworkPolicy", "attune-api")["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == ["http", "https"]


def test_tls_alone_takes_nobody_without() -> None:
    manifests = template("tls.enabled=true")
    # The port of before leads to HTTPS, as it did.
    assert ports(manifests) == {"https": (443, 8000, "https"), "http": (80, 8000, "https")}
    assert "ATTUNE_API_TLS_PORT" not in env(manifests, "api")
    assert urls(manifests) == {HTTPS, TLS}
    assert "allow_non_tls" not in nats_settings(manifests)
    assert probes(manifests) == {("http", "HTTPS")}
    assert ports(template("tls.enabled=true", "api.service.port=443")) == {"https": (443, 8000, "https")}


def test_without_tls_it_is_as_it_was() -> None:
    manifests = template("tls.enabled=false")
    assert ports(manifests) == {"http": (80, 8000, "http")}
    assert urls(manifests) == {"http://attune-api.attune-system.svc:80", "nats://attune-nats.attune-system.svc:4222"}
    assert "tls" not in nats_settings(manifests)
    assert probes(manifests) == {("http", "HTTP")}
    text = json.dumps(manifests)
    assert not [name for name in ("attune-tls", "TLS_", "CA_FILE") if name in text]


@pytest.mark.parametrize("kept", ["true", "false"])
def test_values_kept_from_an_older_chart_mean_what_they_meant(kept: str) -> None:
    """`helm upgrade --reuse-values`: what is new in this version is not among them."""
    assert template(f"tls.enabled={kept}", "api.service.tlsPort=null") == template(f"tls.enabled={kept}")


def test_nats_is_started_again_when_it_takes_others_than_before() -> None:
    """It reads `allow_non_tls` when it starts."""

    def mark(value: str) -> str:
        found = one(template(f"tls.enabled={value}"), "StatefulSet", "attune-nats")
        text: str = found["spec"]["template"]["metadata"]["annotations"]["attune.dev/configuration"]
        return text

    assert len({mark("true"), mark("transition"), mark("false")}) == 3


def test_a_nats_server_of_ones_own_is_reached_as_before() -> None:
    manifests = template(*OWN_NATS)
    assert urls(manifests) == {HTTPS, "nats://nats.example:4222"}
    assert not any("nats" in host for host in env(manifests, "operator")["ATTUNE_OPERATOR_TLS_HOSTS"].split(","))
    # The operator's authority has not signed that server's certificate.
    assert not any(f"ATTUNE_{part.upper()}_NATS_CA_FILE" in env(manifests, part) for part in PARTS)
    assert "ATTUNE_ACTIONS_API_CA_FILE" in env(manifests, "actions")
    # That of a certificate of one's own is said to verify that server, too.
    own = template(*OWN_NATS, "tls.existingSecret=certificate")
    assert all(f"ATTUNE_{part.upper()}_NATS_CA_FILE" in env(own, part) for part in PARTS)
