"""The sensor's token, in a file that the operator renews (docs/credentials.md)."""

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from attune_kit.watched_file import WatchedFile, WatchedFileError
from attune_sensor._errors import CredentialsError

#: Bytes. A token has a few hundred.
_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token. ``expires_at`` is its claim ``exp`` (Unix time, seconds); None when it is not a JWT with one."""

    value: str
    expires_at: float | None

    def __repr__(self) -> str:
        return f"Token(***, expires_at={self.expires_at})"


class TokenFile(WatchedFile[Token]):
    """The file with the sensor's token."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, parse_token, max_bytes=_MAX_BYTES)

    def read(self, *, fresh: bool = False) -> Token:
        """The token that the file holds now.

        Args:
            fresh: read the file even if it looks unchanged.

        Raises:
            CredentialsError: the file is missing, cannot be read, or holds something else.
        """
        try:
            return super().read(fresh=fresh)
        except WatchedFileError as error:
            raise CredentialsError(str(error)) from error.__cause__


def parse_token(content: bytes) -> Token:
    """Read a token file.

    The API checks the signature; the expiry is read for readiness and metrics only.

    Raises:
        ValueError: the file is empty or holds more than one word.
    """
    text = content.decode("ascii", "replace").strip()
    if not text:
        raise ValueError("the file is empty; it should hold a token")
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("the file holds something other than one token")
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
