"""Time zones by the tzdata that comes with the product, never by the machine's.

``zoneinfo`` reads ``/usr/share/zoneinfo`` first, so the age of a base image would decide when rules fire. Here a zone is one of
the list that travels with the PyPI package ``tzdata``, and is read from that package. Names that only some machines have
(``localtime``, ``posix/…``, ``right/…``) are refused everywhere alike.

Newer zones without a new image: set ``PYTHONTZPATH`` to a folder of compiled zones (as ``zic`` makes them, with ``tzdata.zi``),
to an unpacked ``tzdata`` wheel, or to the wheel file itself. It is read before the package (docs/timers.md, "Time zones").
"""

import functools
import importlib
import os
import re
import zipfile
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

#: Where newer zones are, folders or wheels, separated as in ``PATH``. Python's own variable for the same purpose.
PATHS: Final = "PYTHONTZPATH"
_PACKAGE: Final = "tzdata"
_NAME: Final = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
#: What the package lists, and what is no place: the IANA database has it for machines that were never set up.
_NO_PLACE: Final = frozenset({"Factory"})
_VERSION_LINE: Final = re.compile(r"# version (\S+)")


class UnknownZoneError(ValueError):
    """No time zone has this name."""


class Zones:
    """The zones of one tzdata.

    Args:
        paths: folders or wheels that are looked into before the package.
    """

    def __init__(self, *paths: Path) -> None:
        self._package = resources.files(_PACKAGE) / "zoneinfo"
        self._mounted = [root for path in paths if (root := _root(path)) is not None]
        listed = (resources.files(_PACKAGE) / "zones").read_text(encoding="utf-8").split()
        self.names: frozenset[str] = frozenset(listed) - _NO_PLACE
        for root in self._mounted:
            self.names |= _names(root)
        self._cache: dict[str, ZoneInfo] = {}

    @property
    def version(self) -> str:
        """The IANA version, like ``2026f``. With mounted zones it is theirs; ``unknown`` where they do not say."""
        return _version(self._mounted[0]) if self._mounted else _shipped_version()

    @property
    def folder(self) -> str | None:
        """A folder with all of these zones, for libraries that read ``TZDIR``; None where they are inside a wheel."""
        root = (self._mounted or [self._package])[0]
        return str(root) if isinstance(root, Path) else None

    def get(self, name: str) -> ZoneInfo:
        """The zone of an IANA name (case matters).

        Raises:
            UnknownZoneError: no zone has this name.
        """
        found = self._cache.get(name)
        if found is None:
            found = self._cache[name] = self._read(name)
        return found

    def _read(self, name: str) -> ZoneInfo:
        if name not in self.names:
            raise UnknownZoneError(
                f"unknown time zone {name[:100]!r}; expected an IANA name like Europe/Berlin, or UTC"
            )
        for root in (*self._mounted, self._package):
            file = root.joinpath(*name.split("/"))
            if file.is_file():
                with file.open("rb") as opened:
                    return ZoneInfo.from_file(opened, key=name)
        raise UnknownZoneError(f"the file of the time zone {name!r} is missing")


def paths_of(variables: Mapping[str, str]) -> tuple[Path, ...]:
    """Where the environment says that newer zones are."""
    return tuple(Path(path) for path in variables.get(PATHS, "").split(os.pathsep) if path)


@functools.cache
def shipped() -> Zones:
    """The zones of this process: those of the environment's ``PYTHONTZPATH``, then those of the package."""
    return Zones(*paths_of(os.environ))


def zone(name: str) -> ZoneInfo:
    """The zone of an IANA name.

    Raises:
        UnknownZoneError: no zone has this name.
    """
    return shipped().get(name)


def version() -> str:
    """The IANA version of the zones in use, like ``2026f``."""
    return shipped().version


def _shipped_version() -> str:
    found: str = importlib.import_module(_PACKAGE).IANA_VERSION
    return found


def _root(path: Path) -> Traversable | None:
    """Where the zones are in a folder, an unpacked wheel or a wheel; None when they are in none of these."""
    root: Traversable
    if path.is_dir():
        root = path
    elif zipfile.is_zipfile(path):
        root = zipfile.Path(path)
    else:
        return None
    for inner in ("tzdata/zoneinfo", "zoneinfo"):
        found = root.joinpath(*inner.split("/"))
        if found.is_dir():
            return found
    return root


def _names(root: Traversable, prefix: str = "") -> frozenset[str]:
    """The zones in a folder: files that begin as RFC 8536 says. Names are looked for in the folder itself, not in copies of
    the whole (``posix``, ``right``), nor in what stands for the machine's own zone.
    """
    found: set[str] = set()
    for entry in root.iterdir():
        name = prefix + entry.name
        if not _NAME.fullmatch(name) or name in {"posix", "right", "localtime", "posixrules", *_NO_PLACE}:
            continue
        if entry.is_dir():
            found |= _names(entry, f"{name}/")
        else:
            with entry.open("rb") as opened:
                if opened.read(4) == b"TZif":
                    found.add(name)
    return frozenset(found)


def _version(root: Traversable) -> str:
    for name in ("tzdata.zi", "+VERSION", "version"):
        file = root.joinpath(name)
        if file.is_file():
            with file.open("r", encoding="utf-8", errors="replace") as opened:
                line = opened.readline().strip()
            match = _VERSION_LINE.match(line)
            return match[1] if match else line[:20] or "unknown"
    return "unknown"
