"""Files that are read whole, and files that hold secrets."""

import os
import secrets
import sys
from pathlib import Path

from attune_cli.errors import UsageError


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read. An existing file is replaced as a whole, so readers see the old or the new one.

    Raises:
        UsageError: the file cannot be written.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None


def read_manifest(path: Path) -> str:
    """The text of a file; ``-`` is standard input.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from None
