"""Which files are manifests: as ``kubectl apply -f`` has it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

SUFFIXES: Final = (".yaml", ".yml", ".json")


def manifest_files(paths: Iterable[Path]) -> list[Path]:
    """The files that are named, and those with a manifest's suffix in the folders that are named; each once, in order.

    Folders inside folders are not entered; hidden files are passed over.

    Raises:
        FileNotFoundError: a path that is named does not exist.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = (entry for entry in path.iterdir() if entry.suffix in SUFFIXES and not entry.name.startswith("."))
            found |= dict.fromkeys(sorted(entry for entry in inside if entry.is_file()))
        elif path.exists():
            found[path] = None
        else:
            raise FileNotFoundError(f"There is no file or folder {path}.")
    return list(found)
