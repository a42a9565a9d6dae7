"""Kustomizations: built by ``kubectl kustomize`` or ``kustomize``, whichever is there."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from attune_local.admission.documents import DocumentError, read

NAMES: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_TIMEOUT: Final = 60.0
#: Fields whose entries may be folders with kustomizations of their own.
_PARTS: Final = ("resources", "bases", "components")
_MOST_FOLDERS: Final = 100
_MOST_FILES: Final = 2_000


@dataclass(frozen=True, slots=True)
class Build:
    """What came of a kustomization: a text of manifests, or the problem."""

    text: str = ""
    problem: str = ""


def program() -> list[str] | None:
    """The command that builds a folder, without the folder; None when neither program is there."""
    if (found := shutil.which("kustomize")) is not None:
        return [found, "build"]
    if (found := shutil.which("kubectl")) is not None:
        return [found, "kustomize"]
    return None


def build(folder: Path) -> Build:
    """Build a kustomization. Takes some tenths of a second, more when it fetches something."""
    command = program()
    if command is None:
        advice = f"install kubectl, or render it elsewhere: kubectl kustomize {folder} | attune up -"
        return Build(problem=f"this folder is a kustomization, and neither kubectl nor kustomize is here; {advice}")
    try:
        done = subprocess.run(  # noqa: S603 - the user's own tool on the user's own folder
            [*command, str(folder)],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        return Build(problem=f"{' '.join(command)} cannot build it: {error}")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return Build(problem=f"{Path(command[0]).name} cannot build it: {lines[-1] if lines else 'no reason is given'}")
    return Build(text=done.stdout)


def inputs(folder: Path) -> list[Path]:
    """The files that the kustomization is made of, as far as they are on this machine: all in its folders."""
    found: list[Path] = []
    for each in _folders(folder):
        for path in sorted(each.rglob("*")):
            if len(found) >= _MOST_FILES:
                return found
            if path.is_file():
                found.append(path)
    return found


def _folders(folder: Path) -> Iterator[Path]:
    """The folder, and those that it names."""
    waiting, seen = [folder.absolute()], set[Path]()
    while waiting and len(seen) < _MOST_FOLDERS:
        each = waiting.pop().resolve()
        if each in seen or not each.is_dir():
            continue
        seen.add(each)
        yield each
        named = _kustomization(each)
        for part in _PARTS:
            entries = named.get(part)
            waiting += (
                [each / entry for entry in entries if isinstance(entry, str)] if isinstance(entries, list) else []
            )


def _kustomization(folder: Path) -> dict[str, Any]:
    for name in NAMES:
        try:
            document = read((folder / name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, DocumentError):
            continue
        if document is not None and isinstance(document.value, dict):
            return document.value
    return {}
