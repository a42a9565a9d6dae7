"""The programs: built from their Go modules, kept in the cache under a key of what made them.

One folder per key (`kubestack/<hash of the module's files>-<Go version>`), so that a change of a version never mixes with
what an older checkout still runs. `<cache>/bin/` has a link to the newest of each, for people and for tests.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from .commands import last_line, logged
from .console import ClusterError, step
from .golang import Go, installed, toolchain
from .locks import exclusive
from .nats_server import nats_server
from .settings import KUBERNETES, MODULE, Settings

PROGRAMS: dict[str, tuple[str, ...]] = {
    "kubestack": (
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "coredns",
    ),
    "clients": ("kubectl", "helm", "kind"),
    "pause": ("pause",),
}
"""What each Go program of the module can be started as."""

NAMES = (*(name for names in PROGRAMS.values() for name in names), "nats-server")
"""Every tool there is."""

_PACKAGES = {"kubestack": ".", "clients": "./clients", "pause": "./pause"}


COMPILER_FLAGS = "-gcflags=all=-dwarf=false"
"""No debugging information, which linking strips anyway: a fifth less to compute. Not in the key, as results are the same."""


def module_key(module: Path = MODULE) -> str:
    """A hash of everything that decides what is built, but for the Go version: sources, versions, build flags."""
    digest = hashlib.sha256(f"{KUBERNETES} {platform.system()} {platform.machine()}".encode())
    for path in sorted([*module.rglob("*.go"), module / "go.mod", module / "go.sum"]):
        digest.update(f"{path.relative_to(module)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def link_flags() -> str:
    """Linker flags: smaller files, and the version that components report (else v0.0.0, which clients refuse)."""
    major, minor, _ = KUBERNETES.split(".")
    version = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    settings = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in version.items())
    return f"-s -w {settings}"


def owner_of(name: str) -> str:
    """The Go program that behaves as `name`."""
    return next(program for program, names in PROGRAMS.items() if name in names)


def _complete(folder: Path, programs: Iterable[str]) -> bool:
    return all((folder / name).exists() for program in programs for name in (program, *PROGRAMS[program]))


def _cached(settings: Settings, key: str, programs: set[str]) -> Path | None:
    """A folder that has them all: this Go's, or where there is no Go at all any one's."""
    go = installed()
    folders = settings.cache / "kubestack"
    candidates = [folders / f"{key}-{go.version}"] if go is not None else sorted(folders.glob(f"{key}-*"))
    return next((folder for folder in candidates if _complete(folder, programs)), None)


def _build(go: Go, programs: list[str], target: Path, *, log: Path) -> None:
    """Build Go programs of the module into the folder `target`, showing how far it is."""
    packages = [_PACKAGES[program] for program in programs]
    env = go.environment()
    prefix: list[str | Path] = ["nice", "-n", "10", go.program]
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    with step("fetching the Go modules (once)", detail=lambda: last_line(log)):
        fetch = [*prefix, "list", "-deps", *packages]
        logged(fetch, log, env=env, cwd=MODULE, what="fetching the Go modules", downloads=True)
        total = sum(not line.startswith(("go:", "$")) for line in log.read_text(errors="replace").splitlines())
    log.write_text("")

    def progress() -> str:
        lines = log.read_text(errors="replace").splitlines()
        return f"{len(lines)} of at most {total} packages, {lines[-1][:60] if lines else ''}"

    with step(f"compiling Kubernetes {KUBERNETES} with {go.version} (once, several minutes)", detail=progress):
        command = [
            *prefix,
            "build",
            "-v",
            "-trimpath",
            "-buildvcs=false",
            COMPILER_FLAGS,
            "-ldflags",
            link_flags(),
            "-o",
            f"{target}/",
        ]
        logged([*command, *packages], log, env=env, cwd=MODULE, what="compiling the Kubernetes programs")


def _kubestack(settings: Settings, programs: set[str]) -> Path:
    key = module_key()
    folder = _cached(settings, key, programs)
    if folder is not None:
        return folder
    with exclusive(settings.cache / "tools.lock", what="building the Kubernetes programs"):
        folder = _cached(settings, key, programs)
        if folder is not None:
            return folder
        go = toolchain(settings)
        folder = settings.cache / "kubestack" / f"{key}-{go.version}"
        wanted = sorted(program for program in programs if not _complete(folder, [program]))
        if wanted:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in settings.cache.glob("kubestack/.build.*"):
                shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".build.") as temporary:
                _build(go, wanted, Path(temporary), log=settings.cache / "logs" / "build.log")
                for program in wanted:
                    (Path(temporary) / program).replace(folder / program)
                    for name in PROGRAMS[program]:
                        if name != program:
                            link(folder / name, Path(program))
        return folder


def link(path: Path, target: Path) -> None:
    """Make or replace a symbolic link, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)


def tools(settings: Settings, only: Iterable[str] = NAMES) -> dict[str, Path]:
    """Where each of the tools `only` is, after building or fetching what is missing. Unknown names are an error."""
    names = list(only)
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise ClusterError(f"There is no tool {', '.join(unknown)}; there are {', '.join(NAMES)}.")
    found: dict[str, Path] = {}
    programs = {owner_of(name) for name in names if name != "nats-server"}
    if programs:
        folder = _kubestack(settings, programs)
        found |= {name: folder / name for name in names if name != "nats-server"}
    if "nats-server" in names:
        found["nats-server"] = nats_server(settings)
    for name, path in found.items():
        newest = settings.cache / "bin" / name
        if not newest.is_symlink() or newest.readlink() != path:
            link(newest, path)
    return found
