"""What the file system below a folder can do."""

from __future__ import annotations

import shutil
from pathlib import Path

from .commands import succeeds


def overlay_works(folder: Path) -> bool:
    """Whether the file system below `folder` can hold overlay mounts (one that is itself an overlay or on NFS can't)."""
    probe = folder / "overlay-probe"
    for name in ("lower", "upper", "work", "merged"):
        (probe / name).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={probe}/lower,upperdir={probe}/upper,workdir={probe}/work"
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(probe / "merged")]
    works = succeeds(["unshare", "--mount", "--propagation", "private", *mount])
    shutil.rmtree(probe, ignore_errors=True)
    return works
