"""What ``attune up`` leaves in its data directory for others to find it: the file ``endpoints.json``.

It is written (whole, by renaming) once everything answers, mode 0600, and removed at an orderly end. So a file whose process
is gone was left by one that was killed.
"""

from pathlib import Path
from typing import Final

import msgspec

#: Name of the data directory, in the folder where ``attune up`` was called; others look for it from their folder upwards.
DATA_DIR_NAME: Final = ".attune"
ENDPOINTS_FILE: Final = "endpoints.json"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where something answers HTTP, and the file with the bearer token that it wants (an absolute path; re-read it)."""

    url: str
    token_file: str


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """What one ``attune up`` serves.

    Attributes:
        pid: its process.
        kubernetes: the Kubernetes API as far as Sensors and Rules need it: ``GET`` of one, of all in a namespace and of all,
            merge ``PATCH`` of ``spec`` and ``metadata``, with ``Status`` objects for what fails.
        api: the event API.
    """

    pid: int
    kubernetes: Endpoint
    api: Endpoint


def write_endpoints(data_dir: Path, endpoints: Endpoints) -> None:
    """Say where everything is.

    Raises:
        OSError: the file cannot be written.
    """
    path = data_dir / ENDPOINTS_FILE
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(msgspec.json.format(msgspec.json.encode(endpoints)) + b"\n")
    new.replace(path)


def read_endpoints(data_dir: Path) -> Endpoints | None:
    """What was said; None when nothing runs with this data directory, as far as the file tells.

    Raises:
        OSError: the file cannot be read.
        msgspec.DecodeError: it is something else.
    """
    try:
        return msgspec.json.decode((data_dir / ENDPOINTS_FILE).read_bytes(), type=Endpoints)
    except FileNotFoundError:
        return None
