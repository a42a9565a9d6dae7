"""The API's settings, from the environment (variables that begin with ``ATTUNE_API_``)."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from attune_contract.claims import DEFAULT_ISSUER, MIN_TTL
from attune_contract.quotas import Quotas
from attune_contract.subjects import PLAIN_API
from attune_kit.logs import Style, given_style, style_named
from attune_kit.postgres.url import SCHEMES, parse

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_DRIVERS = {
    "sqlite+aiosqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "sqlite": "sqlite",
}


class Settings(BaseSettings):
    """One instance per process, read once at start and logged with its secrets masked."""

    model_config = SettingsConfigDict(
        env_prefix="ATTUNE_API_", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )

    host: str = "0.0.0.0"  # noqa: S104 - a pod's address is not known before it runs
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one, which the log line ``listening`` names."""
    database_url: str = "sqlite:////var/lib/attune/attune.db"
    """SQLAlchemy URL of a SQLite file, or libpq's of a PostgreSQL database (``postgresql://user:password@host/name``)."""
    migrate_at_start: bool | None = None
    """Whether to bring the tables up to date before serving. Not set: yes for SQLite, no for PostgreSQL, where
    ``attune-api migrate`` does it once instead of every replica."""
    jwks_file: Path = Path("/etc/attune/jwks/jwks.json")
    """JSON Web Key Set with the public keys of sensor tokens; read again whenever its content changes."""
    token_issuer: str = DEFAULT_ISSUER
    """``iss`` that sensor tokens must have, and that minted ones get."""
    signing_keys_file: Path | None = None
    """JSON Web Key Set with private keys and the member ``active`` (a ``kid``). Not set: no tokens are minted."""
    token_min_ttl: Annotated[int, Field(ge=1)] = int(MIN_TTL.total_seconds())
    """Shortest life in seconds of a token that can be asked for."""
    admin_token_file: Path | None = None
    """File with a token that may do everything, for running without a cluster."""
    kubernetes_auth: Literal["auto", "on", "off"] = "auto"
    """Whether callers other than sensors are checked with the cluster. auto: where a ServiceAccount is mounted."""
    kubernetes_url: str | None = None
    """The cluster's API server. Not set: the one in a pod's environment."""
    kubernetes_token_file: Path = SERVICE_ACCOUNT / "token"
    """Token with which this API calls the cluster's; read again when it changes."""
    kubernetes_ca_file: Path = SERVICE_ACCOUNT / "ca.crt"
    """Certificates that the cluster's API server is checked against."""
    nats_url: str | None = None
    """NATS server or servers, comma-separated. Not set: events are not passed on, and revocations not heard of."""
    nats_creds_file: Path | None = None
    """NATS user JWT and seed; read again when it changes."""
    nats_rules_api: str = PLAIN_API
    """Prefix of the JetStream API that reaches the rule stream; ``attune.rulesjs`` where the operator manages NATS's accounts."""
    nats_ca_file: Path | None = None
    """Certificates (PEM) that NATS's own is checked against; without it, the system's."""
    nats_replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Replicas of the stream of events; 3 for a NATS cluster. A stream that has more keeps them."""
    check_rules: bool = True
    """Whether a sensor may report events only for rules that it serves, by what the operator says on NATS. Without
    ``nats_url``, only the token is checked."""
    rules_grace: Annotated[float, Field(ge=0)] = 30.0
    """Seconds after the connection to NATS, or the stream of rules, was created again in which a missing rule may
    still arrive: its events are answered with 503 and sent again, and refused only afterwards."""
    tls_certificate_file: Path | None = None
    """Certificate chain (PEM) to serve HTTPS with; read again when it is renewed. Not set: plain HTTP."""
    tls_key_file: Path | None = None
    """The certificate's private key (PEM)."""
    tls_port: Annotated[int | None, Field(ge=0, le=65535)] = None
    """Port for HTTPS beside plain HTTP on ``port``, for the time in which clients change; 0 takes a free one. Not set: HTTPS
    alone, on ``port``, where there is a certificate."""
    events_stream_max_age: Annotated[int, Field(ge=1)] = 7 * 24 * 3600
    """Seconds that events stay in the stream ``ATTUNE_EVENTS``, if this API has to create it."""
    events_stream_max_bytes: Annotated[int, Field(ge=1024 * 1024)] = 256 * 1024 * 1024
    """Bytes that the stream ``ATTUNE_EVENTS`` may hold, if this API has to create it; the oldest go first."""
    events_max_age: Annotated[int, Field(ge=0)] = 90 * 24 * 3600
    """Seconds for which an event is kept after it was stored; 0 for ever. The newest of each rule stays in any case."""
    events_per_rule: Annotated[int, Field(ge=0)] = 0
    """Events that are kept of each rule; 0 for all."""
    runs_max_age: Annotated[int, Field(ge=0)] = 90 * 24 * 3600
    """Seconds for which a run is kept after its last change; 0 for ever. One that has not ended stays in any case."""
    runs_per_rule: Annotated[int, Field(ge=0)] = 0
    """Runs that are kept of each rule; 0 for all."""
    quotas: Quotas = Quotas()
    """What a namespace may use (JSON); the operator has the same. Of each namespace by itself: ``namespaces`` in it."""
    retention_interval: Annotated[float, Field(gt=0)] = 600.0
    """Seconds between looks for events and runs that need not be kept."""
    lease: Annotated[float, Field(ge=2, le=60)] = 5.0
    """Seconds after which another replica on PostgreSQL goes on with what only one does (publishing, deleting), when that one
    is gone without a word. It is renewed three times within."""
    queue_events: Annotated[int, Field(ge=1000)] = 20_000
    """Events that may wait for the database before new ones are answered with 503."""
    max_stream_clients: Annotated[int, Field(ge=1)] = 1000
    """Clients of the event stream (SSE) at once; one more is answered with 503."""
    stream_heartbeat: Annotated[float, Field(gt=0)] = 15.0
    """Seconds after which a reader that follows events hears something, though there is nothing for it."""
    stream_send_timeout: Annotated[float, Field(gt=0)] = 30.0
    """Seconds for which a reader that follows events may take nothing before it is cut off."""
    console: bool = False
    """Whether the console is served, the pages under ``/console`` (docs/console.md)."""
    console_kubernetes_url: str | None = None
    """The Kubernetes API that the console asks with callers' tokens. Not set: the one that callers are checked with."""
    console_kubernetes_token_file: Path | None = None
    """Token for that API on behalf of a caller with the admin token, as under ``attune up``."""
    console_proxy: bool = False
    """Whether a proxy in front signs callers in, and sends their token as ``Authorization`` with each request of a page."""
    body_memory: Annotated[int, Field(ge=2 * 1024 * 1024)] = 16 * 1024 * 1024
    """Bytes of request bodies held at once before new ones are answered with 503."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Annotated[Style, BeforeValidator(style_named)] = Field(default_factory=given_style)
    """json: one object per line. text: for people. Unless it is set, ATTUNE_LOG_FORMAT says it for all programs."""

    @field_validator("database_url")
    @classmethod
    def _known_driver(cls, value: str) -> str:
        value = value.strip()  # a Secret made with echo ends with a newline
        scheme = value.partition("://")[0]
        if scheme in SCHEMES:
            parse(value)
            return f"postgresql{value.removeprefix(scheme)}"
        try:
            url = make_url(value)
        except ArgumentError as error:
            # The URL itself may hold a password, so it is not repeated.
            raise ValueError("not a database URL; write sqlite:////path/file or postgresql://host/name") from error
        url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
        if url.drivername not in _DRIVERS.values():
            raise ValueError(f"{url.drivername!r} is not supported; use sqlite or postgresql")
        if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
            raise ValueError("SQLite needs a file, since several connections share it; write sqlite:////path/file")
        return url.render_as_string(hide_password=False)

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("set both ATTUNE_API_TLS_CERTIFICATE_FILE and ATTUNE_API_TLS_KEY_FILE, or neither")
        if self.tls_port is not None and self.tls_certificate_file is None:
            raise ValueError("ATTUNE_API_TLS_PORT needs ATTUNE_API_TLS_CERTIFICATE_FILE and ATTUNE_API_TLS_KEY_FILE")
        if self.tls_port is not None and self.tls_port == self.port != 0:
            raise ValueError("ATTUNE_API_TLS_PORT and ATTUNE_API_PORT are the same; leave out TLS_PORT for HTTPS alone")
        return self

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @property
    def uses_sqlite(self) -> bool:
        """Whether the database is a SQLite file."""
        return self.database_url.startswith("sqlite")

    @property
    def migrates_at_start(self) -> bool:
        """Whether tables are brought up to date before serving."""
        return self.uses_sqlite if self.migrate_at_start is None else self.migrate_at_start

    def kubernetes_server(self) -> str | None:
        """URL of the cluster's API server, or None where callers are not checked with a cluster.

        Raises:
            ValueError: ``kubernetes_auth`` is on, and there is no server to be found.
        """
        if self.kubernetes_auth == "off":
            return None
        url = self.kubernetes_url
        host = os.environ.get("KUBERNETES_SERVICE_HOST")
        if url is None and host:
            port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
            url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        if self.kubernetes_auth == "auto":
            return url if url and self.kubernetes_token_file.exists() else None
        if url is None:
            raise ValueError(
                "ATTUNE_API_KUBERNETES_AUTH is on, but this is no pod; set ATTUNE_API_KUBERNETES_URL, or set it to off"
            )
        return url

    def console_server(self) -> str | None:
        """URL of the Kubernetes API that the console asks; None where there is no console.

        Raises:
            ValueError: there is to be one, and there is no API to ask.
        """
        if not self.console:
            return None
        url = self.console_kubernetes_url or self.kubernetes_server()
        if url is None:
            raise ValueError(
                "ATTUNE_API_CONSOLE is on, and there is no Kubernetes API to ask; set ATTUNE_API_CONSOLE_KUBERNETES_URL"
            )
        return url

    def masked(self) -> dict[str, Any]:
        """The settings as they may be logged."""
        shown = self.model_dump(mode="json")
        if not self.uses_sqlite:
            shown["database_url"] = parse(self.database_url).shown()
        if self.nats_url and "@" in self.nats_url:
            shown["nats_url"] = "***@" + self.nats_url.rpartition("@")[2]
        return shown
