"""Mounted files that change while the program runs (Secrets, ConfigMaps, ServiceAccount tokens)."""

from pathlib import Path


class WatchedFile:
    """A small file, read again when it changed.

    What is compared is ``stat``, which costs microseconds, on every call: kubelet swaps a directory's symbolic link, so
    inode and time change with the content, and watching inodes would miss just that. The files live in memory (tmpfs) or
    are a few hundred bytes long, which is why reading them does not leave the event loop.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._signature: tuple[int, int, int] | None = None
        self._content = b""
        self.version = 0  #: counts changes of the content; 0 before the first successful read

    def read(self) -> bytes:
        """The present content.

        Raises:
            OSError: it does not exist, or may not be read.
        """
        status = self.path.stat()
        signature = (status.st_ino, status.st_mtime_ns, status.st_size)
        if signature != self._signature:
            content = self.path.read_bytes()
            if content != self._content or not self.version:
                self._content = content
                self.version += 1
            self._signature = signature
        return self._content
