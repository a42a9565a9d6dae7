"""What sensors of brokers share: the servers of their Sensor (``spec.config.servers``, decision 96), and rules that name one."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from attune_kit.servers import unknown_name
from attune_sensor._errors import InvalidRuleError, SettingsError
from attune_sensor._parameters import read_parameters
from attune_sensor._rules import Rule

_Given = TypeVar("_Given")
_Server = TypeVar("_Server")


class _NamesServer(Protocol):
    @property
    def server(self) -> str: ...


_WithServer = TypeVar("_WithServer", bound=_NamesServer)


class _Config(msgspec.Struct, Generic[_Given], frozen=True, forbid_unknown_fields=True):
    servers: dict[str, _Given] = {}


def read_servers(
    config: Mapping[str, Any], given: type[_Given], build: Callable[[str, _Given], _Server]
) -> dict[str, _Server]:
    """The servers of a Sensor's configuration, by name.

    Args:
        config: ``spec.config``; it holds ``servers`` and nothing else.
        given: the type of a server as it is written.
        build: see :func:`build_named`.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    try:
        written: dict[str, _Given] = msgspec.convert(config, type=_Config[given]).servers  # type: ignore[valid-type]
    except msgspec.ValidationError as error:
        raise SettingsError(f"spec.config of the Sensor cannot be used: {error}") from None
    return build_named(written, build)


def build_named(
    written: Mapping[str, _Given], build: Callable[[str, _Given], _Server], *, field: str = "servers"
) -> dict[str, _Server]:
    """What the sensor needs of each thing that its configuration names.

    Names have no ``/``, so that they can be part of event ids.

    Args:
        written: each as it is written, by its name.
        build: makes what the sensor needs of a name and what is written. It raises ValueError with what is wrong.
        field: the field of ``spec.config`` that has them.

    Raises:
        SettingsError: one cannot be used.
    """
    built = {}
    for name, each in written.items():
        where = f"spec.config.{field}.{name} of the Sensor"
        if not name or "/" in name:
            raise SettingsError(f"{where}: {name!r} is no name; it must not be empty or hold a '/'")
        try:
            built[name] = build(name, each)
        except ValueError as error:
            raise SettingsError(f"{where}: {error}") from None
    return built


def read_server_parameters(rule: Rule, parameters: type[_WithServer], servers: Iterable[str]) -> _WithServer:
    """The parameters of a rule that names one of the Sensor's servers.

    Args:
        rule: the rule.
        parameters: their type; its field ``server`` is the name.
        servers: the servers that the Sensor knows.

    Raises:
        InvalidRuleError: they do not fit the type, or the Sensor does not know the server.
    """
    found = read_parameters(rule.parameters, parameters)
    if (problem := unknown_name(found.server, servers)) is not None:
        raise InvalidRuleError(problem)
    return found
