"""What every sensor is given in addition to its own spec, from the settings. Certificates are reloaded at run time."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from attune_operator.resources.common import Environment
from attune_operator.settings import Settings

_log = structlog.stdlib.get_logger(__name__)

_INTERVAL: Final = 15.0
_LARGEST: Final = 256 * 1024


class SensorEnvironment:
    """The present :class:`~attune_operator.resources.common.Environment`; ``on_change`` is called when it changes."""

    def __init__(self, settings: Settings, *, on_change: Callable[[], None]) -> None:
        self._settings = settings
        self._on_change = on_change
        self._certificates: str | None = None

    def current(self) -> Environment:
        """Return the present environment."""
        settings = self._settings
        return Environment(
            nats_url=settings.nats_url_for_sensors,
            api_url=settings.sensor_api_url,
            log_level=settings.sensor_log_level,
            log_format=settings.sensor_log_format,
            nats_credentials=settings.nats_auth == "managed",
            network_policies=settings.network_policies,
            stdio_image=settings.stdio_image,
            image_registry=settings.sensor_image_registry,
            default_registry=settings.sensor_default_registry,
            pull_secrets=settings.sensor_pull_secrets,
            http_proxy=settings.sensor_http_proxy_url,
            https_proxy=settings.sensor_https_proxy_url,
            no_proxy=settings.sensor_no_proxy,
            otlp_endpoint=settings.sensor_otlp_endpoint,
            otlp_headers_secret=settings.sensor_otlp_headers_secret,
            traces_sampler=settings.sensor_traces_sampler,
            traces_sampler_arg=settings.sensor_traces_sampler_arg,
            ca_certificates=self._certificates,
        )

    async def read(self) -> None:
        """Read the certificates. If the file cannot be read, the previous ones stay."""
        path = self._settings.sensor_ca_file
        if path is None:
            return
        try:
            text = await asyncio.to_thread(_read, path)
        except (OSError, ValueError) as error:
            _log.error("certificates_not_read", file=str(path), error=str(error))
            return
        if text != self._certificates:
            self._certificates = text
            self._on_change()

    async def run(self) -> None:
        """Follow the file until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            await self.read()


def _read(path: Path) -> str:
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST} bytes")
    text = path.read_text(encoding="ascii")
    if "BEGIN CERTIFICATE" not in text:
        raise ValueError("it contains no PEM certificate")
    return text
