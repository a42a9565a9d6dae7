"""Credentials in files that somebody else renews (design, "Credentials").

A file is read for each use; what was read is kept as long as the file's signature (device, inode, size, times) stays the same.
Nothing watches inodes: a Secret volume is renewed by swapping a symlink, which such watches miss.
"""

import base64
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from attune_sensor.errors import CredentialsError

_T = TypeVar("_T")

#: A token or a credentials file is a few kilobytes; more is not one.
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token. ``expires_at`` is its claim ``exp`` (Unix time, seconds); None when it is not a JWT that says so."""

    value: str
    expires_at: float | None

    def __repr__(self) -> str:
        return f"Token(***, expires_at={self.expires_at})"


@dataclass(frozen=True, slots=True)
class NatsCredentials:
    """A NATS user JWT and the seed of the key that it was made for."""

    jwt: bytes
    seed: bytes

    def __repr__(self) -> str:
        return "NatsCredentials(***)"

    def sign(self, nonce: str) -> bytes:
        """The server's nonce, signed with the seed (base64).

        Raises:
            CredentialsError: the seed is not one.
        """
        import nkeys  # here, as only sensors with NATS credentials pay for libsodium's memory

        try:
            pair = nkeys.from_seed(bytearray(self.seed))
            signature = base64.b64encode(pair.sign(nonce.encode()))
            pair.wipe()
        except Exception as error:
            raise CredentialsError(f"the NATS credentials' seed cannot be used ({type(error).__name__})") from None
        return signature


class CredentialFile(Generic[_T]):
    """A credential in a file."""

    def __init__(self, *, path: Path, parse: Callable[[bytes], _T]) -> None:
        self._path = path
        self._parse = parse
        self._signature: tuple[int, ...] | None = None
        self._content: bytes | None = None
        self._value: _T | None = None

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._path

    def read(self, *, fresh: bool = False) -> _T:
        """What the file holds now.

        Args:
            fresh: read the file even if it looks unchanged.

        Raises:
            CredentialsError: the file is missing, cannot be read, or holds something else.
        """
        try:
            found = os.stat(self._path)  # noqa: PTH116 - one call instead of four, for each request
            signature = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if not fresh and self._value is not None and signature == self._signature:
                return self._value
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise CredentialsError(f"cannot read {self._path}: {error.strerror or error}") from error
        if self._value is None or content != self._content:
            try:
                value = self._parse(content)
            except ValueError as error:
                raise CredentialsError(f"{self._path}: {error}") from None
            self._value, self._content = value, content
        self._signature = signature
        return self._value

    def latest(self) -> _T:
        """What the file holds now or, when it cannot be read, held last: that may still be accepted.

        Raises:
            CredentialsError: it never held anything.
        """
        try:
            return self.read()
        except CredentialsError:
            if self._value is None:
                raise
            return self._value


def parse_token(content: bytes) -> Token:
    """Read a token file.

    The signature is not checked, that is the API's part; the expiry is read for readiness and metrics only.

    Raises:
        ValueError: the file is empty or holds more than one word.
    """
    text = content.decode("ascii", "replace").strip()
    if not text:
        raise ValueError("the file is empty; it should hold a token")
    if len(content) > _MAX_BYTES or not re.fullmatch(r"[!-~]+", text):
        raise ValueError("the file holds something else than one token")
    return Token(text, _expiry(text))


def _expiry(token: str) -> float | None:
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims: Any = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, msgspec.MsgspecError):
        return None
    expiry = claims.get("exp") if isinstance(claims, dict) else None
    return float(expiry) if isinstance(expiry, int | float) and not isinstance(expiry, bool) else None


_JWT = re.compile(rb"-----BEGIN NATS USER JWT-----\s+([!-~]+)\s+-+END NATS USER JWT-+")
_SEED = re.compile(rb"-----BEGIN USER NKEY SEED-----\s+([!-~]+)\s+-+END USER NKEY SEED-+")


def parse_nats_credentials(content: bytes) -> NatsCredentials:
    """Read a ``.creds`` file.

    nats-py's own reader loops for ever on a file without the expected lines, which would stop the whole sensor.

    Raises:
        ValueError: the user JWT or the seed is missing.
    """
    jwt, seed = _JWT.search(content), _SEED.search(content)
    if jwt is None or seed is None:
        raise ValueError("the file is not NATS credentials (a user JWT and an nkey seed)")
    return NatsCredentials(jwt.group(1), seed.group(1))
