"""Small files that another program renews: mounted Secrets, ConfigMaps and ServiceAccount tokens."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")

#: Bytes. A token or a key set has a few kilobytes; a Secret holds at most 1 MiB.
_MAX_BYTES: Final = 1024 * 1024


class WatchedFileError(OSError):
    """The file cannot be read, or its content is not valid. The text names the file and the reason."""


class WatchedFile(Generic[_T]):
    """A file that is read again when it has changed.

    Each call compares the file's ``stat`` (device, inode, size and times), which takes microseconds. Nothing watches
    inodes: kubelet renews a volume by replacing a symbolic link, which such watches miss.

    Args:
        path: the file.
        parse: turns its bytes into the value; raises ``ValueError`` when they are not valid.
        max_bytes: a larger file is not valid.

    Attributes:
        path: the file.
        version: how many different contents were read; 0 before the first.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], _T], *, max_bytes: int = _MAX_BYTES) -> None:
        self.path = path
        self.version = 0
        self._parse = parse
        self._max_bytes = max_bytes
        self._signature: tuple[int, ...] | None = None
        self._content: bytes | None = None
        self._value: _T | None = None

    def read(self, *, fresh: bool = False) -> _T:
        """The value that the file holds now.

        Args:
            fresh: read the file even if it looks unchanged.

        Raises:
            WatchedFileError: the file is missing, cannot be read, or its content is not valid.
        """
        try:
            found = os.stat(self.path)  # noqa: PTH116 - one call instead of four, for each request
            signature = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if not fresh and self._value is not None and signature == self._signature:
                return self._value
            with self.path.open("rb") as file:
                content = file.read(self._max_bytes + 1)
        except OSError as error:
            raise WatchedFileError(f"cannot read {self.path}: {error.strerror or error}") from error
        if self._value is None or content != self._content:
            try:
                if len(content) > self._max_bytes:
                    raise ValueError(f"the file is larger than {self._max_bytes} bytes")
                value = self._parse(content)
            except ValueError as error:
                raise WatchedFileError(f"{self.path}: {error}") from None
            self._value, self._content = value, content
            self.version += 1
        self._signature = signature
        return self._value

    def latest(self) -> _T:
        """The value that the file holds now or, when it cannot be read, held last: that one may still be accepted.

        Raises:
            WatchedFileError: no valid content was ever read.
        """
        try:
            return self.read()
        except WatchedFileError:
            if self._value is None:
                raise
            return self._value
