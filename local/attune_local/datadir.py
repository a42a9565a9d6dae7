"""The data folder (``.attune``): what is in it, and that one ``attune up`` at a time has it."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Final, Self

from attune_contract.local import DATA_DIR_NAME, ENDPOINTS_FILE
from attune_local.errors import UpError
from attune_local.node.volumes import write_private
from attune_local.ports import free_port, is_free, port_like

_LOCK: Final = "lock"
#: Seconds that an earlier run's guard may take to end everything.
_CLEARING: Final = 15.0
_POLL: Final = 0.05


class DataDir:
    """One data folder, held until :meth:`close`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    @classmethod
    def open(cls, path: Path, *, fresh: bool) -> Self:
        """Take the folder, and make it where there is none. ``fresh``: without anything of earlier runs.

        Raises:
            UpError: another ``attune up`` has it, or it cannot be written.
        """
        found = cls(path)
        try:
            found.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found._take()
            if fresh:
                found._empty()
            (found.path / ".gitignore").write_text("*\n", encoding="ascii")
        except OSError as error:
            raise UpError(f"The data folder {found.path} cannot be used: {error.strerror or error}.") from error
        return found

    @property
    def lock(self) -> int:
        """The descriptor that holds the lock."""
        assert self._lock is not None  # noqa: S101 - open() has set it
        return self._lock

    def _take(self) -> None:
        descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + _CLEARING
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner = self._owner(descriptor)
                # When the one that took it is gone, its guard holds it until everything has ended.
                if owner is None or _alive(owner) or time.monotonic() > deadline:
                    os.close(descriptor)
                    who = f"process {owner}" if owner is not None else "another process"
                    raise UpError(
                        f"attune up runs already with the data folder {self.path} ({who}). Stop it, or choose another "
                        "folder with --data-dir."
                    ) from None
                time.sleep(_POLL)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    @staticmethod
    def _owner(descriptor: int) -> int | None:
        text = os.pread(descriptor, 32, 0).strip()
        return int(text) if text.isdigit() else None

    def _empty(self) -> None:
        for entry in self.path.iterdir():
            if entry.name == _LOCK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def close(self) -> None:
        """Give it back."""
        if self._lock is not None:
            (self.path / ENDPOINTS_FILE).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def folder(self, name: str) -> Path:
        """A folder inside, made when it is missing."""
        path = self.path / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def secret(self, name: str) -> str:
        """A random token in a file of that name; the same in each run, so that scripts may keep it."""
        path = self.path / name
        with contextlib.suppress(OSError):
            if text := path.read_text(encoding="ascii").strip():
                return text
        text = secrets.token_urlsafe(32)
        write_private(path, text.encode() + b"\n")
        return text

    def ports(self, wanted: dict[str, int]) -> dict[str, int]:
        """A port for each name: the one that is wanted (0: any), else that of the run before, else a free one.

        The same port in each run means that sensors need not be told of another.

        Raises:
            UpError: one that is wanted is taken.
        """
        path = self.path / "ports.json"
        try:
            before = json.loads(path.read_text())
        except (OSError, ValueError):
            before = {}
        chosen: dict[str, int] = {}
        for name, port in wanted.items():
            if port:
                if not is_free(port):
                    raise UpError(
                        f"Port {port} of 127.0.0.1 is taken by another program; choose another with --{name}-port, or "
                        "leave the option out for one that is free."
                    )
                chosen[name] = port
            else:
                old = before.get(name)
                chosen[name] = port_like(old) if isinstance(old, int) else free_port()
        write_private(path, json.dumps(chosen).encode())
        return chosen


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):  # one that only waits to be reaped is gone
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return True


def default_path() -> Path:
    """``.attune`` in the present folder."""
    return Path.cwd() / DATA_DIR_NAME
