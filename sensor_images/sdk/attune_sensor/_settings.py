"""The settings of a sensor, read from the environment (docs/sensor-protocol.md)."""

import math
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from attune_contract import environment, subjects
from attune_contract.identity import SensorRef
from attune_kit.logs import STYLES, Style, style_named
from attune_sensor._errors import SettingsError

_T = TypeVar("_T")

_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class WhenFull(StrEnum):
    """What happens to an event when the queue, or the spool, has no room for it."""

    DROP_OLDEST = "drop-oldest"
    DROP_NEWEST = "drop-newest"
    BLOCK = "block"


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorSettings:
    """A sensor's settings. Times are seconds, sizes are bytes."""

    sensor: SensorRef
    trigger_types: tuple[str, ...]
    api_url: str
    token_file: Path
    nats_url: str
    rules_subject: str
    acks_subject: str
    instance: str
    nats_inbox_prefix: str
    nats_api_prefix: str = subjects.PLAIN_API  #: prefix of the JetStream API that reaches the rule stream
    rules_consumers: tuple[str, ...] = ()  #: names that the consumers of the rule stream may have; empty for any
    nats_creds_file: Path | None = None
    ca_file: Path | None = None
    config_file: Path | None = None
    spool_dir: Path | None = None
    spool_max_bytes: int = 256 * 1024 * 1024
    when_full: WhenFull = WhenFull.DROP_OLDEST
    log_level: str = "INFO"
    log_format: Style = "json"
    metrics_host: str | None = None
    metrics_port: int = environment.DEFAULT_METRICS_PORT
    grace_seconds: float = 25.0
    resync_seconds: float = 300.0
    health_seconds: float = 15.0
    secrets_dir: Path | None = None
    listen_host: str | None = None
    ports: Mapping[str, int] = field(default_factory=dict)  #: where to listen, by the names of ``spec.ports``

    @classmethod
    def from_environment(
        cls, variables: Mapping[str, str], *, when_full: WhenFull = WhenFull.DROP_OLDEST
    ) -> "SensorSettings":
        """Read the settings.

        Args:
            variables: the environment.
            when_full: the default, where the environment does not set it.

        Raises:
            SettingsError: variables are missing or wrong; the text names each of them.
        """
        reader = _Reader(variables)
        sensor = reader.required(environment.SENSOR_REF, SensorRef.parse)
        types = reader.required(environment.TRIGGER_TYPES, _names)
        api_url = reader.required(environment.API_URL, _http_url)
        token_file = reader.required(environment.API_TOKEN_FILE, Path)
        nats_url = reader.required(environment.NATS_URL, _nats_url)
        creds = reader.optional(environment.NATS_CREDS_FILE, Path, None)
        authority = reader.optional(environment.CA_FILE, Path, None)
        config = reader.optional(environment.CONFIG_FILE, Path, None)
        spool = reader.optional(environment.SPOOL_DIR, Path, None)
        spool_max = reader.optional(environment.SPOOL_MAX_BYTES, _size, 256 * 1024 * 1024)
        full = reader.optional(environment.SPOOL_FULL, _when_full, when_full)
        level = reader.optional(environment.LOG_LEVEL, _log_level, "INFO")
        style = reader.optional(environment.LOG_FORMAT, _log_format, None)
        host = reader.optional(environment.METRICS_HOST, str, None)
        port = reader.optional(environment.METRICS_PORT, _port, environment.DEFAULT_METRICS_PORT)
        grace = reader.optional(environment.GRACE_SECONDS, _seconds, 25.0)
        resync = reader.optional(environment.RESYNC_SECONDS, _seconds, 300.0)
        health = reader.optional(environment.HEALTH_SECONDS, _seconds, 15.0)
        instance = reader.optional(environment.SENSOR_INSTANCE, str, socket.gethostname())
        rules = reader.optional(environment.RULES_SUBJECT, str, None)
        acks = reader.optional(environment.ACKS_SUBJECT, str, None)
        inbox = reader.optional(environment.NATS_INBOX_PREFIX, str, None)
        api_prefix = reader.optional(environment.NATS_API_PREFIX, str, None)
        consumers = reader.optional(environment.RULES_CONSUMERS, _consumers, None)
        secrets = reader.optional(environment.SECRETS_DIR, Path, None)
        listen = reader.optional(environment.LISTEN_HOST, str, None)
        ports = {}
        for name in sorted(variables):
            if name.startswith(environment.PORT_PREFIX):
                ports[name.removeprefix(environment.PORT_PREFIX).lower().replace("_", "-")] = reader.optional(
                    name, _port, None
                )
        reader.complain()
        if sensor is None or types is None or api_url is None or token_file is None or nats_url is None:
            raise AssertionError("complain() names what is missing")
        return cls(
            sensor=sensor,
            trigger_types=types,
            api_url=api_url,
            token_file=token_file,
            nats_url=nats_url,
            rules_subject=rules or subjects.rules_filter(sensor),
            acks_subject=acks or subjects.acks_prefix(sensor),
            instance=instance or socket.gethostname(),
            nats_inbox_prefix=inbox or sensor.inbox_prefix,
            nats_api_prefix=api_prefix or subjects.PLAIN_API,
            rules_consumers=consumers or (),
            nats_creds_file=creds,
            ca_file=authority,
            config_file=config,
            spool_dir=spool,
            spool_max_bytes=spool_max or 0,
            when_full=full or when_full,
            log_level=level or "INFO",
            log_format=style or "json",
            metrics_host=host,
            metrics_port=environment.DEFAULT_METRICS_PORT if port is None else port,
            grace_seconds=25.0 if grace is None else grace,
            resync_seconds=resync or 300.0,
            health_seconds=health or 15.0,
            secrets_dir=secrets,
            listen_host=listen,
            ports={name: number for name, number in ports.items() if number is not None},
        )

    def masked(self) -> dict[str, Any]:
        """The settings for the log. They hold no secret but a password that may stand in the NATS address."""
        shown: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "nats_url":
                value = re.sub(r"//[^/@,]*@", "//***@", value)
            shown[each.name] = value if isinstance(value, int | float | None) else _plain(value)
        return shown


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else str(value)


class _Reader:
    """Collects everything that is wrong, so that a user need not find one mistake at a time."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._missing: list[str] = []
        self._wrong: list[str] = []

    def required(self, name: str, read: Callable[[str], _T]) -> _T | None:
        if not self._variables.get(name, "").strip():
            self._missing.append(name)
            return None
        return self._read(name, read)

    def optional(self, name: str, read: Callable[[str], _T], default: _T | None) -> _T | None:
        if not self._variables.get(name, "").strip():
            return default
        return self._read(name, read)

    def complain(self) -> None:
        problems = list(self._wrong)
        if self._missing:
            problems.insert(
                0,
                f"not set: {', '.join(self._missing)} (the operator sets them in a sensor's pod; set them yourself when "
                "you run a sensor by hand)",
            )
        if problems:
            raise SettingsError("; ".join(problems))

    def _read(self, name: str, read: Callable[[str], _T]) -> _T | None:
        try:
            return read(self._variables[name].strip())
        except ValueError as error:
            self._wrong.append(f"{name}: {error}")
            return None


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("write trigger types with commas between them, like core.intervaltimer,core.crontimer")
    return names


def _consumers(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is not an address; write it like http://attune-api.attune-system:8080")
    return text.rstrip("/")


def _nats_url(text: str) -> str:
    for part in text.split(","):
        parts = urlsplit(part.strip())
        if parts.scheme not in ("nats", "tls", "ws", "wss") or not parts.hostname:
            # The address is not repeated: a password may stand in it.
            raise ValueError("not an address; write it like nats://attune-nats.attune-system:4222")
    return text


def _size(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 64 * 1024:
        raise ValueError(f"{text!r} is not a size; write a number of bytes, at least 65536")
    return value


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise ValueError(f"{text!r} is not a port; write a number from 0 (any free one) to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{text!r} is not a time; write a positive number of seconds")
    return value


def _when_full(text: str) -> WhenFull:
    try:
        return WhenFull(text)
    except ValueError:
        raise ValueError(f"{text!r} is none of {', '.join(WhenFull)}") from None


def _log_level(text: str) -> str:
    if text.upper() not in _LOG_LEVELS:
        raise ValueError(f"{text!r} is none of {', '.join(_LOG_LEVELS)}")
    return text.upper()


def _log_format(text: str) -> Style:
    for style in STYLES:
        if style == style_named(text):
            return style
    raise ValueError(f"{text!r} is none of {', '.join(STYLES)}")
