"""The NATS server: built from its own Go module at the version that `hack/cluster/nats-server/go.mod` pins.

Go checks every module against `go.sum` before it compiles, and against the checksum database when one is added there. The
same module and version of Go give the same bytes wherever they are built, so the Dockerfile's own build gives what is built
here.
"""

from __future__ import annotations

import hashlib
import platform
import tempfile
from pathlib import Path

from .commands import last_line, logged
from .console import step
from .golang import Go, installed, toolchain
from .locks import exclusive
from .settings import GO_FROM_PYPI, PACKAGE, Settings

MODULE = PACKAGE.parent / "nats-server"
SERVER = "github.com/nats-io/nats-server/v2"
"""The package that is built."""

FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w")
"""As in the Dockerfile."""


def module_key(module: Path = MODULE) -> str:
    """A hash of everything that decides what is built, but for the Go version."""
    digest = hashlib.sha256(f"{FLAGS} {platform.system()} {platform.machine()}".encode())
    for name in ("go.mod", "go.sum"):
        digest.update((module / name).read_bytes())
    return digest.hexdigest()[:16]


def _cached(settings: Settings) -> Path | None:
    """A program that was built: this Go's, or where there is no Go at all any one's."""
    go, folders = installed(), settings.cache / "nats-server"
    found = [folders / f"{module_key()}-{go.version}"] if go else sorted(folders.glob(f"{module_key()}-*"))
    return next((folder / "nats-server" for folder in found if (folder / "nats-server").exists()), None)


def program_key(settings: Settings) -> str:
    """What decides which program :func:`nats_server` gives, the Go version included. Builds and fetches nothing."""
    if (found := _cached(settings)) is not None:
        return found.parent.name
    go = installed()
    return f"{module_key()}-{go.version if go else f'go{GO_FROM_PYPI}'}"


def fetch(go: Go, *, log: Path, module: Path = MODULE) -> None:
    """Have the Go modules on this machine that it is built from.

    Raises:
        ClusterError: a module could not be fetched, or is not what go.sum says.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = ["nice", "-n", "10", go.program, "list", "-deps", "-mod=readonly", SERVER]
    with step("fetching the NATS server's Go modules (once)", detail=lambda: last_line(log)):
        what = "fetching the NATS server's Go modules"
        logged(command, log, env=go.environment(), cwd=module, what=what, downloads=True)


def build(go: Go, target: Path, *, log: Path, module: Path = MODULE) -> None:
    """Build it as the file `target`.

    Raises:
        ClusterError: a module could not be fetched, is not what go.sum says, or does not compile.
    """
    fetch(go, log=log, module=module)
    with step(f"compiling the NATS server with {go.version} (once)", detail=lambda: last_line(log)):
        command: list[str | Path] = ["nice", "-n", "10", go.program, "build", "-v", *FLAGS, "-o", target, SERVER]
        logged(command, log, env=go.environment(), cwd=module, what="compiling the NATS server")


def nats_server(settings: Settings) -> Path:
    """The program, alone in its folder; built unless it is in the cache."""
    if (found := _cached(settings)) is not None:
        return found
    with exclusive(settings.cache / "tools.lock", what="building the NATS server"):
        if (found := _cached(settings)) is not None:
            return found
        go = toolchain(settings)
        folder = settings.cache / "nats-server" / f"{module_key()}-{go.version}"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".build.") as temporary:
            made = Path(temporary) / "nats-server"
            build(go, made, log=settings.cache / "logs" / "nats-server.log")
            return made.replace(folder / "nats-server")
