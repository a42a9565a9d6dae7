"""The runner's settings, from the environment (variables that begin with ``ATTUNE_ACTIONS_``)."""

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from attune_kit.logs import Style, given_style, style_named


class Settings(BaseSettings):
    """One instance per process, read once at start and logged with its secrets masked."""

    model_config = SettingsConfigDict(
        env_prefix="ATTUNE_ACTIONS_", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )

    nats_url: str = "nats://nats:4222"
    """NATS server or servers, comma-separated."""
    nats_creds_file: Path | None = None
    """NATS user JWT and seed; read again when it changes."""
    nats_ca_file: Path | None = None
    """Certificates (PEM) that NATS's own is checked against; without it, the system's."""
    nats_replicas: Annotated[int, Field(ge=1, le=5)] = 1
    """Replicas of the streams that this program creates. Those that have more keep them."""
    api_url: str = ""
    """URL of the API, for events that are no longer in the stream. Not set: there is none to ask."""
    api_token_file: Path | None = None
    """Bearer token for the API; read for each request. In a pod, its ServiceAccount's."""
    api_ca_file: Path | None = None
    """Certificates (PEM) that the API's own is checked against; without it, the system's."""
    emit_url: str = ""
    """Where the Sensor ``core.event`` takes events of actions of kind emit. Not set: they fail, with a sentence."""
    emit_url_file: Path | None = None
    """A file that holds this URL, read for each event, instead of the setting above: under attune up ports change."""
    emit_token_file: Path | None = None
    """That Sensor's token, read for each event; what is handed to it is signed with it."""
    kubernetes: Literal["auto", "off"] = "auto"
    """auto: act in Rules' namespaces with tokens of their ServiceAccounts, by the pod's own or a kubeconfig. off: not at all."""
    local: bool = False
    """Under attune up: there are no ServiceAccounts, Secrets are those of its store, and Jobs are processes."""
    local_jobs: Path = Path("jobs")
    """Under attune up: the folder where Jobs run and their output is kept."""
    at_once: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Runs under way at once."""
    per_rule: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Runs of one Rule under way at once."""
    denied_networks: Annotated[tuple[str, ...], NoDecode] = ()
    """Networks that http and nats actions may not reach, comma-separated: the cluster's API server and Services. Loopback,
    link-local, unspecified and multicast addresses are denied in any case."""
    allowed_networks: Annotated[tuple[str, ...], NoDecode] = ()
    """Networks that they may reach although they are denied, comma-separated."""
    streams_max_bytes: Annotated[int, Field(ge=1024 * 1024)] = 1024 * 1024 * 1024
    """Bytes that each of the streams of runs may hold, if this program creates them. A full one stops the program, and loses
    nothing."""
    grace: Annotated[float, Field(ge=0)] = 20.0
    """Seconds after SIGTERM in which what is under way may end."""
    host: str = "0.0.0.0"  # noqa: S104 - a pod's address is not known before it runs
    """Address of health and metrics."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port of /live, /ready and /metrics; 0 for any free one, which the log line ``listening`` names."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Annotated[Style, BeforeValidator(style_named)] = Field(default_factory=given_style)
    """json: one object per line. text: for people. Unless it is set, ATTUNE_LOG_FORMAT says it for all programs."""

    @field_validator("denied_networks", "allowed_networks", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = tuple(each.strip() for each in value.split(",") if each.strip())
        for each in found:
            ipaddress.ip_network(each, strict=False)
        return found

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator(
        "nats_creds_file",
        "nats_ca_file",
        "api_token_file",
        "api_ca_file",
        "emit_url_file",
        "emit_token_file",
        mode="before",
    )
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        return None if value == "" else value

    def masked(self) -> dict[str, Any]:
        """The settings as they may be logged."""
        shown = self.model_dump(mode="json")
        if "@" in self.nats_url:
            shown["nats_url"] = "***@" + self.nats_url.rpartition("@")[2]
        return shown
