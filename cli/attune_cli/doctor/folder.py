"""The data folder of an ``attune up``: its logs for the bundle, and what of it must not get there."""

import base64
import json
import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from attune_cli.doctor.bundle import Bundle
from attune_cli.doctor.tasks import Task
from attune_cli.errors import CliError
from attune_cli.targets.kube import Kube
from attune_contract.telling import Object

#: Bytes of one log.
_LOG_BYTES: Final = 1024 * 1024
_FILES: Final = 5000
_ONE_PIECE: Final = re.compile(r"[A-Za-z0-9+/_=.-]{16,}")
_SECRET_FILES: Final = ("*.token", "*/nats.creds", "api/signing-keys.json", "actions/emit/token")
#: Folders of a pod that hold no Secret. Any other may be a volume with one.
_PLAIN_VOLUMES: Final = frozenset({"config", "scripts", "spool", "stdio", "tmp"})
#: Of a volume so many files are read, and of each so many bytes: a Secret has no more.
_VOLUME_FILES: Final = 1000
_SECRET_BYTES: Final = 1024 * 1024


class FolderReader:
    """Adds logs to a bundle, and which files there are. The others are not opened.

    Args:
        bundle: where they go.
        lines: so many of the last lines of each log.
    """

    def __init__(self, bundle: Bundle, *, lines: int) -> None:
        self._bundle = bundle
        self._lines = lines

    def tasks(self, folder: Path) -> Iterator[Task]:
        """What there is to be read."""
        yield "folder/files.txt", partial(self._listing, folder)
        yield "folder/ports.json", partial(self._file, "folder/ports.json", folder / "ports.json")
        for log in sorted((folder / "logs").rglob("*.log")):
            name = f"folder/logs/{log.relative_to(folder / 'logs')}"
            yield name, partial(self._file, name, log)

    def _file(self, name: str, path: Path) -> None:
        try:
            self._bundle.add_text(name, _last_lines(path, self._lines))
        except OSError as error:
            self._bundle.note(name, f"not read: {error.strerror or error}")

    def _listing(self, folder: Path) -> None:
        lines = []
        for path in sorted(folder.rglob("*"))[:_FILES]:
            try:
                lines.append(f"{path.stat().st_size:>12} {path.relative_to(folder)}\n")
            except OSError:
                continue
        self._bundle.add_text("folder/files.txt", "".join(lines))


def _last_lines(path: Path, count: int) -> str:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LOG_BYTES))
        lines = file.read(_LOG_BYTES).decode(errors="replace").splitlines(keepends=True)
    return "".join(lines[-count:]) if count else ""


def folder_secrets(folder: Path) -> Iterator[str]:
    """What the folder's files with tokens and keys hold, and the Secrets that pods have as files, also after a crash.

    Values that a pod has as variables are in no file.
    """
    found = [path for pattern in _SECRET_FILES for path in folder.glob(pattern)]
    for volume in folder.glob("pods/*/*"):
        if volume.name not in _PLAIN_VOLUMES:
            found += islice((path for path in volume.rglob("*") if path.is_file()), _VOLUME_FILES)
    for path in found:
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                yield from _parts(file.read(_SECRET_BYTES))
        except OSError:
            continue


def stored_secrets(kube: Kube) -> Iterator[str]:
    """What the Secrets of an ``attune up`` hold."""
    try:
        secrets = kube.request("GET", "/api/v1/secrets").get("items", ())
    except CliError:
        return
    for secret in secrets:
        yield from _contents(secret)


def _contents(secret: Object) -> Iterator[str]:
    for encoded in (secret.get("data") or {}).values():
        yield from _parts(base64.b64decode(encoded).decode(errors="replace"))
    for text in (secret.get("stringData") or {}).values():
        yield from _parts(str(text))


def _parts(text: str) -> Iterator[str]:
    """A secret text, and those parts of it that are secret by themselves."""
    yield text
    try:
        value = json.loads(text)
        ids = set(_named(value, "kid"))
        yield from (found for found in _long(value) if found not in ids)
    except ValueError:
        yield from (line.strip() for line in text.splitlines() if _ONE_PIECE.fullmatch(line.strip()))


def _named(value: Any, name: str) -> Iterator[str]:
    """The texts in fields of that name."""
    match value:
        case dict():
            for key, part in value.items():
                if key == name and isinstance(part, str):
                    yield part
                yield from _named(part, name)
        case list():
            for part in value:
                yield from _named(part, name)


def _long(value: Any, name: str = "") -> Iterator[str]:
    """The texts that are long enough to be keys; not what is public of a JSON Web Key (RFC 7517, RFC 8037)."""
    match value:
        case dict():
            for key, part in value.items():
                yield from _long(part, key)
        case list():
            for part in value:
                yield from _long(part, name)
        case str() if len(value) >= 16 and name not in ("x", "y"):
            yield value
