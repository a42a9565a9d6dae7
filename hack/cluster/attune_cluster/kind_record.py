"""What is remembered of a kind cluster that was started here: enough to tell it from one that somebody else made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from .settings import Settings


@dataclass(frozen=True, kw_only=True)
class Record:
    """One kind cluster.

    `container` is the id of its control plane's container. It is empty while `kind create` runs, and after a run of it that
    was killed. `complete` says that the creation came to its end and the nodes were ready. `started` is when the creation
    began, in seconds since the epoch.
    """

    name: str
    started: float
    container: str = ""
    complete: bool = False


def _file(settings: Settings) -> Path:
    return settings.state / "kind.json"


def read(settings: Settings) -> Record | None:
    """The record; None when there is none, or none that can be read."""
    try:
        return Record(**json.loads(_file(settings).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write(settings: Settings, record: Record) -> None:
    """Keep the record, in one step."""
    settings.state.mkdir(parents=True, exist_ok=True)
    temporary = _file(settings).with_name(".kind.json.new")
    temporary.write_text(json.dumps(asdict(record)))
    temporary.replace(_file(settings))


def forget(settings: Settings) -> None:
    """Remove the record, and what goes with the cluster."""
    for file in (_file(settings), settings.state / "kind-images.json", settings.kubeconfig):
        file.unlink(missing_ok=True)
