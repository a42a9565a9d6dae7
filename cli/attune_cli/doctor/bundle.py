"""The bundle: a bounded tar.gz of text files, all of which have gone through the masker."""

import io
import json
import os
import tarfile
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from attune_cli.doctor.masking import Masker
from attune_cli.errors import UsageError

#: Bytes of one file, and of all together before they are compressed.
FILE_BYTES: Final = 2 * 1024 * 1024
TOTAL_BYTES: Final = 40 * 1024 * 1024
#: What could not be read, and what was cut.
NOTES_FILE: Final = "not-read.txt"


class Bundle:
    """Collects files. Whatever is added is masked here, so that nothing gets past it.

    Args:
        masker: hides secrets.
        file_bytes: bound of one file. Of a longer text the end is kept: in logs the newest is last. Of a longer list the
            beginning is kept.
        total_bytes: bound of all. What comes later is only named.
    """

    def __init__(self, masker: Masker, *, file_bytes: int = FILE_BYTES, total_bytes: int = TOTAL_BYTES) -> None:
        self._masker = masker
        self._file_bytes = file_bytes
        self._left = total_bytes
        self._files: dict[str, bytes] = {}
        self._notes: list[str] = []
        self._lock = threading.Lock()
        self._closed = False

    @property
    def files(self) -> Mapping[str, bytes]:
        """What was added, by path."""
        return self._files

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not in the bundle, and why."""
        return tuple(self._notes)

    def note(self, path: str, why: str) -> None:
        """Say why something is not there, or not all of it."""
        text = self._masker.text(f"{path}: {why}".replace("\n", " "))
        with self._lock:
            self._notes.append(text)

    def add_text(self, path: str, text: str) -> None:
        """Add a text."""
        text = self._masker.text(text)  # before it is cut: half a private key does not look like one
        content = text.encode(errors="replace")
        if (size := len(content)) > self._file_bytes:
            content = content[-self._file_bytes :].partition(b"\n")[2]
            self.note(path, f"the first {size - len(content)} bytes were left out")
        self._add(path, content)

    def add_value(self, path: str, value: Any) -> None:
        """Add a value as JSON. Of a list that is too long the last items are left out."""
        value = self._masker.value(json.loads(json.dumps(value, default=str)))
        if isinstance(value, list) and (kept := _fitting(value, self._file_bytes)) < len(value):
            self.note(path, f"the last {len(value) - kept} of {len(value)} were left out: the file would be too large")
            value = value[:kept]
        self._add(path, _encoded(value))

    def _add(self, path: str, content: bytes) -> None:
        with self._lock:
            if self._closed:  # a task that is late has a note already
                return
            fits = len(content) <= min(self._file_bytes, self._left)
            if fits:
                self._left -= len(content)
                self._files[path] = content
        if not fits:
            self.note(path, f"left out: with its {len(content)} bytes the bundle would be too large")

    def write(self, target: Path, *, folder: str, now: datetime) -> None:
        """Write the bundle, readable by its owner only. It is there as a whole or not at all.

        Args:
            target: the file.
            folder: the folder in it that holds everything.
            now: the files' time.

        Raises:
            UsageError: it cannot be written.
        """
        with self._lock:
            self._closed = True
        notes = "\n".join(self._notes) or "Everything that was looked for was read."
        contents = {**self._files, NOTES_FILE: f"{notes}\n".encode()}
        part = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
                    for path, content in sorted(contents.items()):
                        entry = tarfile.TarInfo(f"{folder}/{path}")
                        entry.size, entry.mtime, entry.mode = len(content), int(now.timestamp()), 0o600
                        archive.addfile(entry, io.BytesIO(content))
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"The bundle {target} cannot be written: {error.strerror or error}.") from None


def _encoded(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode(errors="replace")


def _fitting(items: list[Any], most: int) -> int:
    """How many of the items, from the first on, are a list of no more than ``most`` bytes."""
    taken = len(_encoded([])) + len("\n")
    for count, item in enumerate(items):
        taken += len(_encoded([item])) - len("[]\n") + len(",")
        if taken > most:
            return count
    return len(items)
