"""Where sensors export spans to (docs/tracing.md): the standard variables of OpenTelemetry in their pods."""

from typing import Any, Final

from attune_contract.resources import Sensor
from attune_operator.resources.common import Environment

_PREFIX: Final = "OTEL_"
_PROTOCOL: Final = "http/protobuf"
#: The key of the Secret with the headers, in the form of ``OTEL_EXPORTER_OTLP_HEADERS``.
HEADERS_KEY: Final = "headers"


def variables(sensor: Sensor, given: Environment) -> list[dict[str, Any]]:
    """Return the variables; none without an endpoint. What the author sets stays as it is.

    The Secret is looked for in the Sensor's namespace, and may be missing: a collector in the cluster asks for no headers.
    """
    if not given.otlp_endpoint:
        return []
    values = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": given.otlp_endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": _PROTOCOL,
        "OTEL_TRACES_SAMPLER": given.traces_sampler,
        "OTEL_TRACES_SAMPLER_ARG": given.traces_sampler_arg,
    }
    found: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in values.items() if value]
    if given.otlp_headers_secret:
        key = {"name": given.otlp_headers_secret, "key": HEADERS_KEY, "optional": True}
        found.append({"name": "OTEL_EXPORTER_OTLP_HEADERS", "valueFrom": {"secretKeyRef": key}})
    authors = {variable.name for variable in sensor.spec.env if variable.name.startswith(_PREFIX)}
    return [variable for variable in found if variable["name"] not in authors]
