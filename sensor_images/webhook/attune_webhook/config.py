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
    drain_seconds: Annotated[float, Meta(ge=0, le=60)] = 3.0  #: after SIGTERM, until everybody knows that this pod goes
    max_connections: Annotated[int, Meta(ge=1, le=100_000)] = 2000
    max_pending: Annotated[int, Meta(ge=1, le=100_000)] = 1000  #: requests that are answered at once


def config_of(found: dict[str, Any]) -> Config:
    """Read it.

    Raises:
        SettingsError: something in it cannot be used.
    """
    try:
        return msgspec.convert(found, type=Config)
    except msgspec.ValidationError as error:
        raise SettingsError(f"spec.config of the Sensor cannot be used: {error}") from None
