"""The Sensor's configuration (``spec.config``): which folders its rules may look into. Pure.

Folders stand here and not in rules: the author of a rule could otherwise read whatever the pod can.
"""

from pathlib import PurePosixPath
from typing import Any

import msgspec

from attune_kit.parameters import microseconds
from attune_sensor import SettingsError, build_named


class _Given(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A folder as it is written."""

    path: str
    notified: bool = True
    scan_every: str = "30s"


class _Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    folders: dict[str, _Given] = {}


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder.

    Attributes:
        name: its name in the configuration.
        path: where it is mounted.
        notified: whether the kernel tells of changes (inotify); not on network file systems.
        scan_every: seconds after which it is looked at in any case.
    """

    name: str
    path: str
    notified: bool
    scan_every: float


def folders_of(config: dict[str, Any]) -> dict[str, Folder]:
    """The folders by name.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    try:
        given = msgspec.convert(config, type=_Config)
    except msgspec.ValidationError as error:
        raise SettingsError(f"spec.config of the Sensor cannot be used: {error}") from None
    return build_named(given.folders, _folder, field="folders")


def _folder(name: str, given: _Given) -> Folder:
    path = PurePosixPath(given.path)
    if not path.is_absolute() or ".." in path.parts or "\0" in given.path:
        raise ValueError("path is no absolute path without '..'")
    try:
        every = microseconds(given.scan_every) / 1e6
    except ValueError as error:
        raise ValueError(f"scanEvery: {error}") from None
    if not 0.05 <= every <= 3600:
        raise ValueError(f"scanEvery is {every:g} s; it may be from 50ms to 1h")
    return Folder(name=name, path=str(path), notified=given.notified, scan_every=every)
