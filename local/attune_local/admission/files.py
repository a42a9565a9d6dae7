"""Which files are manifests: as for ``kubectl apply -f``; and notices about folders that are for other tools."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SUFFIXES: Final = (".yaml", ".yml", ".json")
KUSTOMIZATIONS: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")
CHART: Final = "Chart.yaml"
#: What is typed for standard input.
STDIN: Final = Path("-")
#: Folders that hold no manifests of anybody's own.
_PASSED_OVER: Final = frozenset({"node_modules", "__pycache__", "venv", "vendor"})
_MOST_FOLDERS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is not read, or not as a manifest, and what to do about it."""

    path: Path
    message: str


@dataclass(slots=True)
class Found:
    """What some paths hold.

    Attributes:
        files: manifests, in order.
        kustomizations: folders that have to be built.
        notes: what was passed over.
    """

    files: list[Path] = field(default_factory=list)
    kustomizations: list[Path] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


def manifest_files(paths: Iterable[Path]) -> list[Path]:
    """The manifests among the files that are named, and in the folders that are named; each once, in order.

    Raises:
        FileNotFoundError: a path that is named does not exist.
    """
    return find(paths).files


def find(paths: Iterable[Path], *, recursive: bool = False) -> Found:
    """What the paths hold.

    A folder's own files are its manifests; the folders inside it only where ``recursive`` asks for them. A folder with a
    kustomization is built as a whole. Hidden files and folders are passed over.

    Raises:
        FileNotFoundError: a path that is named does not exist.
    """
    found = Found()
    for path in paths:
        if path == STDIN:
            continue
        if path.is_dir():
            _folder(path, found, recursive=recursive)
        elif path.name in KUSTOMIZATIONS:
            if not path.exists():
                raise FileNotFoundError(f"There is no file or folder {path}.")
            found.kustomizations.append(path.parent)
        elif path.exists():
            found.files.append(path)
        else:
            raise FileNotFoundError(f"There is no file or folder {path}.")
    found.files = list(dict.fromkeys(found.files))
    found.kustomizations = list(dict.fromkeys(found.kustomizations))
    return found


def _folder(path: Path, found: Found, *, recursive: bool) -> None:
    entries = sorted(path.iterdir())
    names = {entry.name for entry in entries}
    if names & set(KUSTOMIZATIONS):
        found.kustomizations.append(path)
        return
    if CHART in names:
        message = f"this is a Helm chart; render it: helm template {path.resolve().name} {path} | attune up -"
        found.notes.append(Note(path, message))
        return
    found.files += [entry for entry in entries if _is_manifest(entry)]
    inside = [entry for entry in entries if _is_open(entry)]
    if recursive:
        for entry in inside:
            _folder(entry, found, recursive=True)
    elif named := [str(folder) for folder in _with_manifests(inside)]:
        shown = " ".join(named[:5]) + (" …" if len(named) > 5 else "")
        found.notes.append(Note(path, f"folders inside it are not read: {shown}. Name them, or give --recursive"))


def _is_manifest(entry: Path) -> bool:
    return entry.suffix in SUFFIXES and not entry.name.startswith(".") and entry.is_file()


def _is_open(entry: Path) -> bool:
    return (
        not entry.name.startswith(".") and entry.name not in _PASSED_OVER and entry.is_dir() and not entry.is_symlink()
    )


def _with_manifests(folders: Iterable[Path]) -> Iterator[Path]:
    """The outermost of these folders, and of those inside them, that hold something for us."""
    waiting, looked_at = list(folders), 0
    while waiting and looked_at < _MOST_FOLDERS:
        folder = waiting.pop(0)
        looked_at += 1
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        names = {entry.name for entry in entries}
        if names & {*KUSTOMIZATIONS, CHART} or any(_is_manifest(entry) for entry in entries):
            yield folder
        else:
            waiting += [entry for entry in entries if _is_open(entry)]
