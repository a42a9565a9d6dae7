"""The command line: `python3 -m attune_cluster up | down | status | images | load | tools` (see `docs/cluster.md`)."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import archives, current, images, kind, local, node, packages, provenance
from .console import ClusterError, say
from .settings import Settings
from .tools import NAMES, tools

KINDS = ("kind", "local", "current")


def chosen(env: Mapping[str, str], *, started: str | None, docker: bool) -> str:
    """Which type of cluster is meant: as told, else as started earlier, else kind where Docker answers, else local."""
    told = env.get("CLUSTER") or ""
    if told and told not in KINDS:
        raise ClusterError(f"CLUSTER={told} is unknown: there are {', '.join(f'CLUSTER={name}' for name in KINDS)}.")
    return told or started or ("kind" if docker else "local")


def _record(settings: Settings) -> Path:
    return settings.state / "type"


def _started(settings: Settings) -> str | None:
    """The type of the cluster that was started and not ended."""
    try:
        word = _record(settings).read_text().strip()
    except OSError:
        word = ""
    if word in KINDS:
        return word
    return "kind" if kind.started(settings) else None


def _which(settings: Settings) -> str:
    started = _started(settings)
    told = bool(os.environ.get("CLUSTER"))
    return chosen(os.environ, started=started, docker=not told and started is None and kind.docker_answers())


def up(settings: Settings, *, with_images: bool) -> None:
    """Start the cluster, build and load the images, say how to use it."""
    began = time.monotonic()
    how, before = _which(settings), _started(settings)
    if before is not None and before != how:
        raise ClusterError(
            f"A cluster of type {before} was started here: `make cluster-down` first, then CLUSTER={how}."
        )
    starts = {"kind": kind, "local": local, "current": current}[how]
    starts.check(settings)
    settings.state.mkdir(parents=True, exist_ok=True)
    if how == "local":
        # Of a start that is killed there are processes and mounts, which `down` ends by this. The others leave nothing.
        _record(settings).write_text(how)
    starts.up(settings)
    _record(settings).write_text(how)
    if with_images and (settings.repository / "Dockerfile").exists():
        images.build_and_load(settings, how)
    say(f"The cluster ({how}) is ready after {time.monotonic() - began:.1f} s. Use it with:")
    say(f"  export KUBECONFIG={shlex.quote(str(settings.kubeconfig))}")


def down(settings: Settings) -> None:
    """End what was started here, and nothing else."""
    how = _started(settings)
    if how == "kind":
        kind.down(settings)
    elif how == "current":
        current.down(settings)
    elif how == "local" or (sys.platform == "linux" and os.geteuid() == 0):
        local.down(settings)  # also without a record: a start that was killed early, or a removed .cluster/
    _record(settings).unlink(missing_ok=True)
    say("The cluster is down.")


def status(settings: Settings) -> bool:
    """Print what there is as JSON; returns whether it is usable."""
    how = _started(settings)
    if how is None:
        found: dict[str, object] = {"cluster": None, "running": False, "usable": False}
    else:
        found = {"kind": kind.status, "local": local.status, "current": current.status}[how](settings)
    print(json.dumps(found, indent=2))
    return bool(found.get("usable"))


def load(settings: Settings, archive: Path) -> None:
    """Make an image archive (`docker save`, OCI) available in the cluster."""
    how = _started(settings)
    if how == "local":
        archives.load(archive, into=node.inside(settings))
    elif how == "kind":
        kind.load(settings, archive)
    else:
        raise ClusterError("No cluster that images can be loaded into was started here: `make cluster` starts one.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="attune_cluster", description="A real Kubernetes cluster for development.")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start the cluster, or repair it; build and load the images")
    start.add_argument("--no-images", action="store_true", help="only the cluster")
    commands.add_parser("down", help="end and remove what `up` started")
    commands.add_parser("status", help="print what runs, as JSON; status 1 unless it is usable")
    commands.add_parser("images", help="build the project's images and load them into the cluster")
    commands.add_parser("test-packages", help="install the system packages that the tests need")
    archive = commands.add_parser("load", help="load an image archive into the cluster")
    archive.add_argument("archive", type=Path)
    statements = commands.add_parser("provenance", help="say in files what the images are built from")
    statements.add_argument("folder", type=Path)
    programs = commands.add_parser("tools", help="build or fetch programs, print where they are, as JSON")
    programs.add_argument("--only", help=f"comma-separated; of {', '.join(NAMES)}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a problem that the person can solve is one message and status 1."""
    options = _parser().parse_args(arguments)
    settings = Settings.from_environment()
    try:
        if options.command == "up":
            up(settings, with_images=not options.no_images)
        elif options.command == "down":
            down(settings)
        elif options.command == "status":
            return 0 if status(settings) else 1
        elif options.command == "images":
            images.build_and_load(settings, _which(settings))
        elif options.command == "test-packages":
            packages.install(packages.TESTS, log=settings.cache / "logs" / "packages.log", who="`make integration`")
        elif options.command == "load":
            load(settings, options.archive)
        elif options.command == "provenance":
            for file in provenance.write(settings, options.folder):
                print(file)
        else:
            names = options.only.split(",") if options.only else NAMES
            print(json.dumps({name: str(path) for name, path in tools(settings, names).items()}, indent=2))
    except ClusterError as problem:
        say(f"error: {problem}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; `make cluster` goes on from here, `make cluster-down` cleans up")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
