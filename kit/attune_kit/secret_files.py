"""Secrets as the Sensor mounts them: a directory for each Secret, a file for each key, replaced by kubelet when they change."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: A file is read again when it was read so long (seconds) ago. Its content is compared, not its time or inode.
_FRESH: Final = 1.0
#: No secret is longer, and nothing else is read into memory.
_LONGEST: Final = 64 * 1024


class MissingSecretError(Exception):
    """A secret is not mounted. The text says which, and what to do."""


class SecretFiles:
    """Reads secrets by reference, ``name/key``.

    Args:
        directory: where they are mounted; None when the sensor was given none.
        clock: seconds, monotonic.
    """

    def __init__(self, directory: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._known: dict[str, tuple[float, bytes | None]] = {}

    def read(self, reference: str) -> bytes | None:
        """The secret that is there now; None when there is none, or an empty one."""
        now = self._clock()
        read_at, secret = self._known.get(reference, (now - 2 * _FRESH, None))
        if now - read_at < _FRESH:
            return secret
        secret = self._load(reference)
        self._known[reference] = (now, secret)
        return secret

    def require(self, reference: str, *, where: str) -> bytes:
        """The secret that is there now.

        Args:
            reference: which one.
            where: where it is referred to, for the message.

        Raises:
            MissingSecretError: there is none.
        """
        if (secret := self.read(reference)) is None:
            raise MissingSecretError(
                f"{where}: {reference} is not mounted; list the Secret in spec.secrets and check this key"
            )
        return secret

    def path(self, reference: str, *, where: str) -> Path:
        """The file of a secret, for libraries that read it themselves.

        Raises:
            MissingSecretError: there is none.
        """
        self.require(reference, where=where)
        assert self._directory is not None  # noqa: S101 - else there was no secret
        return self._directory / reference

    def _load(self, reference: str) -> bytes | None:
        if self._directory is None:
            return None
        try:
            with (self._directory / reference).open("rb") as file:
                # Editors and `echo` end a file with a line break that is not part of the secret.
                return file.read(_LONGEST).rstrip(b"\r\n") or None
        except OSError:
            return None
