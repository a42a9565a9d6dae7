"""The operator's settings: one class, from the environment (prefix ``ATTUNE_OPERATOR_``), printed masked at start."""

import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from attune_contract import __version__, claims
from attune_contract.quotas import Quotas
from attune_contract.resources.durations import parse_duration
from attune_kit.logs import Style, given_style, style_named

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def _own_namespace() -> str:
    """Return the namespace of our pod; outside a cluster, the chart's default."""
    try:
        return _NAMESPACE_FILE.read_text(encoding="ascii").strip() or "attune-system"
    except OSError:
        return "attune-system"


def _duration(value: Any) -> Any:
    """Read ``10m`` and ``1h30m``, as Kubernetes writes durations; a bare number is seconds."""
    if isinstance(value, str):
        text = value.strip()
        return timedelta(seconds=float(text)) if text.replace(".", "", 1).isdigit() else parse_duration(text)
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class Settings(BaseSettings):
    """The operator's settings. Durations are written like 60s, 10m, 24h; a bare number is seconds."""

    model_config = SettingsConfigDict(env_prefix="ATTUNE_OPERATOR_", frozen=True, use_attribute_docstrings=True)

    namespace: str = Field(default_factory=_own_namespace)
    """Where the operator keeps its own Secrets and ConfigMaps (signing keys, JWKS, NATS authorisation)."""
    watch_namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Namespaces to watch, comma-separated; empty for all."""
    sensor_namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Namespaces in which Sensors may run, comma-separated; empty for all that are watched. In others the operator asks for no
    Secret, Deployment or other object of a Sensor, and says so in the Sensor's status."""
    trusted_sensor_namespaces: Annotated[tuple[str, ...], NoDecode] = ()
    """Namespaces, in addition to NAMESPACE, whose Sensors may serve Rules of other namespaces without being allowed there,
    comma-separated; * for all."""

    quotas: Quotas = Quotas()
    """How many Rules Sensors serve (JSON); the API has the same."""

    nats_url: str = "nats://nats:4222"
    """URL of NATS for the operator."""
    nats_creds_file: Path | None = None
    """Credentials of the operator's NATS user, if NATS_AUTH is none and the server requires them."""
    nats_ca_file: Path | None = None
    """Certificates (PEM) to verify NATS's against; without it, the system's."""
    nats_certificate_file: Path | None = None
    """NATS's certificate (PEM). With NATS_AUTH managed, the server is asked to read it again while it serves another."""
    tls_secret: str = ""
    """Secret in which the operator keeps the certificate of NATS and API; empty: they have none, or others' ones. With it, the
    setting SENSOR_CA_FILE is the operator's own file, and so are NATS_CA_FILE and NATS_CERTIFICATE_FILE, unless NATS_URL has
    a host that is not in TLS_HOSTS."""
    tls_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """DNS names of NATS and API in that certificate, comma-separated."""
    nats_auth: Literal["none", "managed"] = "none"
    """managed: the operator keeps NATS operator and account keys, writes the server's authorisation and gives every sensor
    its own user. none: NATS accepts everybody, or is secured by other means."""
    nats_routes: Annotated[tuple[str, ...], NoDecode] = ()
    """Addresses under which the servers of a NATS cluster reach each other, HOST:PORT, comma-separated. With NATS_AUTH managed
    the operator writes them, with a password, to cluster.conf beside accounts.conf."""
    nats_replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Replicas of each stream; 3 for a NATS cluster. Streams that have more keep them."""

    sensor_nats_url: str = ""
    """URL of NATS for sensors; empty for NATS_URL."""
    sensor_api_url: str = "http://attune-api:8080"
    """URL of the API for sensors."""
    sensor_log_level: str = "INFO"
    """ATTUNE_LOG_LEVEL of the sensors."""
    sensor_log_format: Annotated[Style, BeforeValidator(style_named)] = "json"
    """ATTUNE_LOG_FORMAT of the sensors."""
    sensor_ca_file: Path | None = None
    """Certificates (PEM) for sensors to verify the API's and NATS's against, as ATTUNE_CA_FILE."""
    stdio_image: str = f"attune/sensor-stdio:{__version__}"
    """Image with the supervisor of Sensors with runner: Stdio, and their image unless they name another."""
    sensor_image_registry: str = ""
    """Registry of our own images (attune/…) in Sensors, like those of the packs; empty: as the Sensor names them."""
    sensor_default_registry: str = ""
    """Registry of other images in Sensors that name none; empty: the container runtime's default."""
    sensor_pull_secrets: Annotated[tuple[str, ...], NoDecode] = ()
    """Pull secrets of all sensors' pods in addition to their own, by name, in the Sensor's namespace; comma-separated."""
    sensor_http_proxy_url: str = ""
    """HTTP_PROXY of the sensors, unless they set it themselves."""
    sensor_https_proxy_url: str = ""
    """HTTPS_PROXY of the sensors, unless they set it themselves."""
    sensor_no_proxy: Annotated[tuple[str, ...], NoDecode] = ()
    """Hosts that sensors reach without the proxy, in addition to the cluster's own; comma-separated."""
    sensor_otlp_endpoint: str = ""
    """OTEL_EXPORTER_OTLP_ENDPOINT of the sensors, unless they set it themselves; empty: they export no spans."""
    sensor_otlp_headers_secret: str = ""
    """Secret, looked for in the Sensor's namespace, with the headers for it (key headers)."""
    sensor_traces_sampler: str = ""
    """OTEL_TRACES_SAMPLER of the sensors."""
    sensor_traces_sampler_arg: str = ""
    """OTEL_TRACES_SAMPLER_ARG of the sensors."""
    network_policies: bool = True
    """Whether each sensor gets a NetworkPolicy that admits only scrapes, probes and its own ports."""

    api_url: str = ""
    """URL of the API for the operator, which asks it how Rules' runs have ended; empty: statuses do not say."""
    api_token_file: Path | None = None
    """Bearer token for the API, read for each request. In a pod, its ServiceAccount's."""
    run_counts_interval: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(seconds=10)
    """How often the API is asked which Rules' runs have changed."""

    token_issuer: str = claims.DEFAULT_ISSUER
    """Claim iss of the tokens; the API must have the same setting."""
    token_min_ttl: Duration = claims.MIN_TTL
    """Shortest lifetime of a sensor's token; tests lower it."""
    signing_key_period: Duration = timedelta(days=30)
    """Age at which the signing key is replaced."""
    signing_key_lead: Duration = timedelta(minutes=5)
    """How long the next key is published before it signs. The kubelet may take two minutes to update the API's files."""

    sweep_interval: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(seconds=60)
    """How often everything is listed and compared; watch events are only hints. Lists that take long are made less often."""
    key_check_interval: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(seconds=5)
    """How often the signing keys are checked."""
    workers: Annotated[int, Field(ge=1, le=64)] = 8
    """How many Sensors are reconciled at once."""

    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9090
    """Port of /metrics; 0 for any free port."""
    liveness_port: Annotated[int, Field(ge=0, le=65535)] = 8081
    """Port of /healthz and /readyz; 0 for any free port."""
    bind_address: str = "0.0.0.0"  # noqa: S104 - a pod's own address; kubelet and Prometheus come from outside
    """Address of both ports."""
    instance: str = Field(default_factory=lambda: os.environ.get("HOSTNAME") or socket.gethostname())
    """Name of this operator in Events."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lowest severity that is logged."""
    log_format: Annotated[Style, BeforeValidator(style_named)] = Field(default_factory=given_style)
    """json: one object per line. text: for people. Unless it is set, ATTUNE_LOG_FORMAT says it for all programs."""

    @field_validator(
        "watch_namespaces",
        "sensor_namespaces",
        "trusted_sensor_namespaces",
        "sensor_pull_secrets",
        "sensor_no_proxy",
        "tls_hosts",
        "nats_routes",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
        return value

    @field_validator(
        "nats_creds_file", "nats_ca_file", "nats_certificate_file", "sensor_ca_file", "api_token_file", mode="before"
    )
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _tls(self) -> Self:
        if bool(self.tls_secret) != bool(self.tls_hosts):
            raise ValueError("ATTUNE_OPERATOR_TLS_SECRET and ATTUNE_OPERATOR_TLS_HOSTS are set together or not at all")
        return self

    @model_validator(mode="after")
    def _watched(self) -> Self:
        if self.watch_namespaces and (others := set(self.sensor_namespaces) - set(self.watch_namespaces)):
            raise ValueError(
                f"ATTUNE_OPERATOR_SENSOR_NAMESPACES names {', '.join(sorted(others))}, which ATTUNE_OPERATOR_WATCH_NAMESPACES "
                "does not: name it in both"
            )
        return self

    @property
    def trusted_namespaces(self) -> frozenset[str] | None:
        """The namespaces whose Sensors may serve Rules of all others; None: every one's."""
        return (
            None
            if "*" in self.trusted_sensor_namespaces
            else frozenset({self.namespace, *self.trusted_sensor_namespaces})
        )

    @property
    def nats_url_for_sensors(self) -> str:
        """NATS as sensors reach it."""
        return self.sensor_nats_url or self.nats_url

    def masked(self) -> dict[str, Any]:
        """Return the settings for the log, with passwords in URLs masked. They contain no other secrets."""
        shown = self.model_dump(mode="json")
        return {
            key: _without_password(value) if key.endswith(("_url", "_endpoint")) else value
            for key, value in shown.items()
        }


def _without_password(urls: str) -> str:
    return ",".join(
        f"{scheme}://***@{rest.rpartition('@')[2]}" if "@" in rest else url
        for url in urls.split(",")
        for scheme, _, rest in [url.partition("://")]
    )
