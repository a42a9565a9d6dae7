"""OCI image archives, made and rewritten with the standard library.

containerd imports an OCI layout in a tar file; the name an image gets there is an annotation in the layout's index.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .commands import capture, tail
from .components import PAUSE_IMAGE
from .console import ClusterError
from .layout import CONTAINERD_SOCKET
from .settings import Settings

_TYPE = "application/vnd.oci.image"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """The machine's architecture as images call it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))


def _blob(archive: tarfile.TarFile, content: bytes, media_type: str) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    _add(archive, f"blobs/sha256/{digest}", content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def single_program(program: Path, name: str, target: Path) -> None:
    """Write the archive of an image that holds one static program and runs it."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as content:
        _add(content, program.name, program.read_bytes(), mode=0o755)
    with tarfile.open(target, "w") as archive:
        stored = _blob(archive, layer.getvalue(), f"{_TYPE}.layer.v1.tar")
        config = {
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [stored["digest"]]},
        }
        described = _blob(archive, json.dumps(config).encode(), f"{_TYPE}.config.v1+json")
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_TYPE}.manifest.v1+json",
            "config": described,
            "layers": [stored],
        }
        entry = _blob(archive, json.dumps(manifest).encode(), f"{_TYPE}.manifest.v1+json")
        _index(archive, [entry | {"annotations": {"io.containerd.image.name": name}}])


def _content(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": f"{_TYPE}.index.v1+json", "manifests": manifests}


def _index(archive: tarfile.TarFile, manifests: list[dict[str, Any]]) -> None:
    _add(archive, "index.json", json.dumps(_content(manifests)).encode())
    _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


_TAG = "org.opencontainers.image.ref.name"


def tags(layout: Path) -> dict[str, dict[str, Any]]:
    """The manifests of an OCI layout folder by their tags; empty where there is no layout or a damaged one.

    A manifest whose tag another one got later is still listed, without a tag.
    """
    try:
        manifests = json.loads((layout / "index.json").read_text())["manifests"]
        annotated = ((entry.get("annotations", {}).get(_TAG), entry) for entry in manifests)
        return {tag: entry for tag, entry in annotated if tag is not None}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _blobs(layout: Path, manifest: dict[str, Any]) -> list[Path]:
    """The files of one image in an OCI layout folder."""

    def path(digest: str) -> Path:
        return layout / "blobs" / digest.replace(":", "/")

    content = json.loads(path(manifest["digest"]).read_text())
    return [path(entry["digest"]) for entry in (manifest, content["config"], *content["layers"])]


def pack(layout: Path, names: Mapping[str, str], target: Path) -> None:
    """Write the images of an OCI layout folder as one archive; `names` maps their tags there to their full names.

    Layers that images share are in it once. Blobs that none of the images needs any more are removed from the layout.
    """
    found = tags(layout)
    missing = sorted(set(names) - set(found))
    if missing:
        raise ClusterError(f"The image layout {layout} has no {', '.join(missing)}.")
    needed = {blob for tag in names for blob in _blobs(layout, found[tag])}
    with tarfile.open(target, "w") as archive:
        for blob in sorted(needed):
            archive.add(blob, f"blobs/sha256/{blob.name}")
        _index(
            archive, [found[tag] | {"annotations": {"io.containerd.image.name": name}} for tag, name in names.items()]
        )
    index = layout / "index.json"
    replacement = layout / "index.new"
    replacement.write_text(json.dumps(_content([found[tag] for tag in names])))
    replacement.replace(index)
    for blob in (layout / "blobs" / "sha256").iterdir():
        if blob not in needed:
            blob.unlink()


def load(archive: Path, *, into: list[str]) -> None:
    """Import an archive into the node that the command prefix `into` enters.

    It goes through standard input, so it may be anywhere: the node does not see all of the machine's folders.
    """
    containerd = [*into, "ctr", f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io", "images", "import", "-"]
    with archive.open("rb") as content:
        done = subprocess.run(containerd, stdin=content, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"importing {archive} failed:\n{tail(done.stderr or done.stdout)}")


def load_pause(settings: Settings, program: Path, *, into: list[str]) -> None:
    """Put the image that holds pods' namespaces open into the node, unless it is there."""
    containerd = [*into, "ctr", f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io", "images", "list", "--quiet"]
    if PAUSE_IMAGE in capture(containerd).split():
        return
    with tempfile.TemporaryDirectory(dir=settings.state) as folder:
        archive = Path(folder) / "pause.tar"
        single_program(program, PAUSE_IMAGE, archive)
        load(archive, into=into)
