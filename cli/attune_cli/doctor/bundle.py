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
        file_bytes: bound of one file. Of a longer text the end is kept: in logs the newest is last.
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
        if len(text) > self._file_bytes:
            self.note(path, f"the first {len(text) - self._file_bytes} characters were left out")
            text = text[-self._file_bytes :].partition("\n")[2]
        self._add(path, text.encode(errors="replace"))

    def add_value(self, path: str, value: Any) -> None:
        """Add a value as JSON."""
        text = json.dumps(self._masker.value(json.loads(json.dumps(value, default=str))), indent=1, ensure_ascii=False)
        self._add(path, text.encode(errors="replace"))

    def _add(self, path: str, content: bytes) -> None:
        if len(content) > self._file_bytes * 2 or len(content) > self._left:
            self.note(path, f"left out: with its {len(content)} bytes the bundle would be too large")
            return
        with self._lock:
            if not self._closed:  # a task that is late has a note already
                self._left -= len(content)
                self._files[path] = content

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
