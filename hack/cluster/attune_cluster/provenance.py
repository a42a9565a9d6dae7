"""Where the images of a cluster come from: a statement for each, made from the built archive.

It is an in-toto statement with SLSA's provenance as predicate: which commit, target and pinned inputs an image with this
digest was built from. It is not signed: that is up to those who publish the images.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import builder, images, nats_server
from .commands import capture
from .console import ClusterError
from .settings import Settings
from .sources import copied

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://attune.dev/provenance/dockerfile/v1"
"""Described in docs/supply-chain.md."""

PINS = ("uv.lock", "hack/uv.txt", "hack/cluster/nats-server/go.sum")
"""Files that pin what is fetched while an image is built."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """Something that an image is built from: where it is from, and its digests by algorithm."""

    uri: str
    digest: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """As SLSA's ResourceDescriptor."""
        return {"uri": self.uri, "digest": dict(self.digest)}


def digests(archive: Path) -> dict[str, str]:
    """The manifests' SHA-256 of an archive's images, by their full names.

    Raises:
        ClusterError: the archive holds no images, or not what its index says.
    """
    found: dict[str, str] = {}
    try:
        with tarfile.open(archive) as content:
            index = json.loads(_read(content, "index.json"))
            for entry in index["manifests"]:
                digest = entry["digest"].removeprefix("sha256:")
                if hashlib.sha256(_read(content, f"blobs/sha256/{digest}")).hexdigest() != digest:
                    raise ClusterError(f"{archive}: the manifest {digest} is not what its name says.")
                found[entry["annotations"]["io.containerd.image.name"]] = digest
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        raise ClusterError(f"{archive} is no archive of images: {error}") from error
    return found


def _read(content: tarfile.TarFile, name: str) -> bytes:
    member = content.extractfile(name)
    return member.read() if member is not None else b""


def statement(name: str, digest: str, *, target: str, inputs: Sequence[Input], builder_version: str) -> dict[str, Any]:
    """The statement about one image.

    Args:
        name: the image's full name.
        digest: its manifest's SHA-256, in hexadecimal digits.
        target: the Dockerfile's target that it is built from.
        inputs: what it is built from; the repository is the first.
        builder_version: the version of the program that built it.
    """
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"dockerfile": "Dockerfile", "target": target},
                "resolvedDependencies": [each.as_json() for each in inputs],
            },
            "runDetails": {"builder": {"id": f"{BUILD_TYPE}#buildah", "version": {"buildah": builder_version}}},
        },
    }


def repository_input(repository: Path, built_from: Iterable[str]) -> Input:
    """The commit that is checked out.

    Raises:
        ClusterError: a file that goes into the images is not as in the commit, so it would not be what they come from.
    """
    git: list[str | Path] = ["git", "-C", repository]
    changed = capture([*git, "status", "--porcelain", "--", *built_from]).splitlines()
    if changed:
        files = ", ".join(line[3:] for line in changed[:5])
        raise ClusterError(f"Commit first: the images are built from files that are in no commit ({files}).")
    commit = capture([*git, "rev-parse", "HEAD"]).strip()
    return Input(uri="git+file:.", digest={"gitCommit": commit})


def file_input(repository: Path, name: str) -> Input:
    """A file of the repository."""
    return Input(uri=f"file:{name}", digest={"sha256": hashlib.sha256((repository / name).read_bytes()).hexdigest()})


def base_input(settings: Settings) -> Input:
    """The base image: by its digest if it is named with one, else by a hash of how it was made."""
    name, _, digest = (settings.python_image or "").partition("@sha256:")
    if digest:
        return Input(uri=f"docker://{name}", digest={"sha256": digest})
    return Input(uri=f"docker://{name or builder.BASE}", digest={"recipe": builder.base_key(settings)})


def write(settings: Settings, target: Path) -> list[Path]:
    """Build the images of `CLUSTER=local` unless they are there, and write a statement for each into the folder `target`."""
    dockerfile = (settings.repository / "Dockerfile").read_text()
    repository = repository_input(settings.repository, ["Dockerfile", ".dockerignore", *copied(dockerfile)])
    _, archive = images.archive(settings)
    program = nats_server.nats_server(settings)
    inputs = [
        repository,
        *(file_input(settings.repository, name) for name in PINS),
        Input(uri="file:nats-build/nats-server", digest={"sha256": hashlib.sha256(program.read_bytes()).hexdigest()}),
        base_input(settings),
    ]
    version = capture(["buildah", "--version"]).split()[2]
    found = digests(archive)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for image in images.images():
        name = images.full_name(image.name, settings.version)
        made = statement(name, found[name], target=image.target, inputs=inputs, builder_version=version)
        file = target / f"{image.target}.intoto.json"
        file.write_text(json.dumps(made, indent=2) + "\n")
        written.append(file)
    return written
