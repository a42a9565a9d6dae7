"""The Sensor's own configuration (``spec.config``)."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from attune_sensor import SettingsError

_Seconds = Annotated[float, Meta(gt=0, le=300)]


class Config(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """How the sensor treats its callers. Times are seconds."""

    body_seconds: _Seconds = 10.0  #: for a request's body to come in
    confirm_seconds: _Seconds = 10.0  #: for the event to be stored or spooled
    keep_alive_seconds: _Seconds = 75.0  #: for a connection's next request to come in, headers and all
    drain_seconds: Annotated[float, Meta(ge=0, le=60)] = (
        3.0  #: after SIGTERM, until Services no longer route to this pod
    )
    max_connections: Annotated[int, Meta(ge=1, le=100_000)] = 2000
    max_pending: Annotated[int, Meta(ge=1, le=100_000)] = 1000  #: requests that are answered at once
    max_buffered_bytes: Annotated[int, Meta(ge=1024 * 1024)] = 64 * 1024 * 1024  #: of all bodies that are in memory
    health_path: Annotated[str, Meta(pattern=r"^/[^?#\s]*$", max_length=256)] = (
        "/healthz"  #: answers 200 to load balancers
    )


def config_of(found: dict[str, Any]) -> Config:
    """Read ``spec.config``.

    Raises:
        SettingsError: something in it cannot be used.
    """
    try:
        return msgspec.convert(found, type=Config)
    except msgspec.ValidationError as error:
        raise SettingsError(f"spec.config of the Sensor cannot be used: {error}") from None
