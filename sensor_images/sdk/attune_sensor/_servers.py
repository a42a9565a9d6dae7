"""What sensors of brokers share: the servers of their Sensor (``spec.config.servers``, decision 96), and rules that name one."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from attune_kit.servers import unknown_server
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

    Names have no ``/``, so that they can be part of event ids.

    Args:
        config: ``spec.config``; it holds ``servers`` and nothing else.
        given: the type of a server as it is written.
        build: makes what the sensor needs of a server's name and what is written. It raises ValueError with what is wrong.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    try:
        written: dict[str, _Given] = msgspec.convert(config, type=_Config[given]).servers  # type: ignore[valid-type]
    except msgspec.ValidationError as error:
        raise SettingsError(f"spec.config of the Sensor cannot be used: {error}") from None
    servers = {}
    for name, each in written.items():
        where = f"spec.config.servers.{name} of the Sensor"
        if not name or "/" in name:
            raise SettingsError(f"{where}: {name!r} is no name; it must not be empty or hold a '/'")
        try:
            servers[name] = build(name, each)
        except ValueError as error:
            raise SettingsError(f"{where}: {error}") from None
    return servers


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
    if (problem := unknown_server(found.server, servers)) is not None:
        raise InvalidRuleError(problem)
    return found
