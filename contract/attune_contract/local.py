"""The file ``endpoints.json``, by which others find a running ``attune up``.

It is in the data directory, with mode 0600. It is written atomically once everything answers, and removed at an orderly end.
So a file whose process is gone was left by one that was killed.
"""

from pathlib import Path
from typing import Final

import msgspec

#: Name of the data directory, in the folder where ``attune up`` was started. Others look for it in their folder and its parents.
DATA_DIR_NAME: Final = ".attune"
ENDPOINTS_FILE: Final = "endpoints.json"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP address, and the file with its bearer token (an absolute path; read it for each request)."""

    url: str
    token_file: str


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """What one ``attune up`` serves.

    Attributes:
        pid: its process.
        kubernetes: a part of the Kubernetes API (docs/attune-up.md, "Talking to a running attune up").
        api: the event API.
        pages: where health and metrics of what is no pod are served, by part: ``operator``, ``actions``. The API has its own.
    """

    pid: int
    kubernetes: Endpoint
    api: Endpoint
    pages: dict[str, str] = {}


def write_endpoints(data_dir: Path, endpoints: Endpoints) -> None:
    """Write the file.

    Raises:
        OSError: the file cannot be written.
    """
    path = data_dir / ENDPOINTS_FILE
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(msgspec.json.format(msgspec.json.encode(endpoints)) + b"\n")
    new.replace(path)


def read_endpoints(data_dir: Path) -> Endpoints | None:
    """Read the file; None when there is none, so nothing runs with this data directory.

    Raises:
        OSError: the file cannot be read.
        msgspec.DecodeError: it has another content.
    """
    try:
        return msgspec.json.decode((data_dir / ENDPOINTS_FILE).read_bytes(), type=Endpoints)
    except FileNotFoundError:
        return None
