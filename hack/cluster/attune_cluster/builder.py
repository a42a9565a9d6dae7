"""Building images without a Docker engine: buildah, on a base image made from Debian packages.

The base stands in for `python:…-slim` where no registry can be reached. It has the machine's certificate authorities, so
that pip works behind a company's proxy, and `pip` and `python` as the official image has them.

buildah gets a storage of its own in the cache and runs in its own mount and process namespaces: a build that is killed
leaves no mount, and nothing of a Podman or buildah that the user has is touched.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from . import archives, packages
from .commands import last_line, logged, succeeds
from .console import ClusterError, step
from .filesystems import overlay_works
from .locks import exclusive
from .settings import DEBIAN_SUITE, Settings

BASE = "localhost/attune-python:base"
_INCLUDED = ("python3", "python3-venv", "python3-pip", "ca-certificates", "tzdata")
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_KEPT = 4
"""Archives of images that stay in the cache."""

ISOLATED = ("unshare", "--fork", "--kill-child", "--pid", "--mount", "--propagation", "private", "--mount-proc")
"""A prefix for commands: the command ends when its parent does, and its mounts go with it."""

_HOOKS = (
    'ln -s python3 "$1/usr/bin/python"',
    'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',  # as in the official image: pip may install outside a venv
)
_DOCKERFILE = """FROM scratch
ADD base.tar /
ENV LANG=C.UTF-8 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt \\
    REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
CMD ["python3"]
"""


class Target(Protocol):
    """What is built: a target of the Dockerfile, and the name it gets."""

    @property
    def target(self) -> str: ...
    @property
    def name(self) -> str: ...


def _authorities() -> Path | None:
    """The machine's certificate authorities; those of SSL_CERT_FILE first."""
    candidates = (Path(os.environ.get("SSL_CERT_FILE") or _CERTIFICATES), _CERTIFICATES)
    return next((path for path in candidates if path.is_file()), None)


def base_key(settings: Settings) -> str:
    """What the base image is made of, as a hash; or the name of the image that is used instead."""
    if settings.python_image:
        return settings.python_image
    authorities = _authorities()
    recipe = [DEBIAN_SUITE, archives.architecture(), *_INCLUDED, *_EXCLUDED, *_HOOKS, _DOCKERFILE]
    digest = hashlib.sha256("\0".join(recipe).encode())
    digest.update(authorities.read_bytes() if authorities else b"")
    return digest.hexdigest()[:16]


def _buildah(settings: Settings, *arguments: str | Path) -> list[str]:
    storage = settings.cache / "buildah"
    for name in ("root", "run"):
        (storage / name).mkdir(parents=True, exist_ok=True)
    driver = ["--storage-driver=overlay" if overlay_works(storage) else "--storage-driver=vfs"]
    # The run folder is a tmpfs of this one command: it would else say after a kill that things are mounted. So is
    # /var/lib, where buildah would put a cache of its own, unless what it needs is there.
    private = [storage / "run"]
    if not any(path.is_relative_to("/var/lib") for path in (settings.cache, settings.repository)):
        private.append(Path("/var/lib"))
    script = " && ".join(f"mount -t tmpfs tmpfs {shlex.quote(str(path))}" for path in private) + ' && exec "$@"'
    buildah = ["buildah", f"--root={storage / 'root'}", f"--runroot={storage / 'run'}", *driver]
    return [*ISOLATED, "sh", "-c", script, "sh", *buildah, *map(str, arguments)]


def _base_archive(settings: Settings, key: str) -> Path:
    """The base's file system as a tar file."""
    file = settings.cache / "base" / f"{key}.tar"
    if file.exists():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    for leftover in file.parent.glob(".new.*"):
        leftover.unlink(missing_ok=True)
    temporary = file.with_name(f".new.{os.getpid()}.tar")
    log = settings.cache / "logs" / "base.log"
    options = [f"--include={','.join(_INCLUDED)}"]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
    options += [f"--customize-hook={hook}" for hook in _HOOKS]
    authorities = _authorities()
    if authorities is not None:
        options.append(f"--customize-hook=upload {authorities} {_CERTIFICATES}")
    command = ["nice", "mmdebstrap", "--variant=minbase", *options, DEBIAN_SUITE, str(temporary)]
    with step("making the base image from Debian packages (once)", detail=lambda: last_line(log)):
        logged([*ISOLATED, *command], log, what="making the base image", downloads=True)
    return temporary.replace(file)


def _base(settings: Settings, log: Path) -> str:
    """The base image's name, after making it where needed."""
    if settings.python_image:
        return settings.python_image
    key = base_key(settings)
    name = f"{BASE}-{key}"
    if not succeeds(_buildah(settings, "inspect", "--type=image", name)):
        archive = _base_archive(settings, key)
        with tempfile.TemporaryDirectory(dir=settings.cache) as folder:
            (Path(folder) / "Dockerfile").write_text(_DOCKERFILE)
            os.link(archive, Path(folder) / "base.tar")
            with step("storing the base image"):
                logged(
                    _buildah(settings, "bud", "--isolation=chroot", f"--tag={name}", folder), log, what="the base image"
                )
    return name


def build(
    settings: Settings,
    dockerfile: Path,
    images: Sequence[Target],
    *,
    arguments: Mapping[str, str],
    contexts: Mapping[str, Path],
    target: Path,
) -> None:
    """Build `images` and write them to the archive `target`, under their full names (`docker.io/NAME:VERSION`).

    `contexts` are folders that stand for stages of the Dockerfile, by their names: those stages are not built.
    """
    packages.install([*packages.NODE, *packages.BUILD], log=settings.cache / "logs" / "packages.log")
    log = settings.cache / "logs" / "images.log"
    with exclusive(settings.cache / "images.lock", what="building images"):
        if target.exists():
            return
        base = _base(settings, log)
        options = ["--isolation=chroot", "--network=host", "--layers", f"--build-arg=PYTHON_IMAGE={base}"]
        options += [f"--build-arg={name}={value}" for name, value in arguments.items()]
        options += [f"--build-context={name}={folder}" for name, folder in contexts.items()]
        (settings.cache / "images").mkdir(parents=True, exist_ok=True)
        for killed in (settings.cache / "images").glob(".new.*"):
            shutil.rmtree(killed, ignore_errors=True)
        layout = settings.cache / "images" / "layout"
        names = {image.target: f"docker.io/{image.name}:{settings.version}" for image in images}
        identities: dict[str, str] = {}
        for image in images:
            with step(f"building {image.name}:{settings.version}", detail=lambda: last_line(log)):
                identities[image.target] = _build_one(settings, image, [*options, f"--file={dockerfile}"], log)
        with tempfile.TemporaryDirectory(dir=settings.cache / "images", prefix=".new.") as temporary:
            packed = Path(temporary) / "images.tar"
            with step("exporting the images", detail=lambda: last_line(log)):
                try:
                    _export(settings, identities, layout, names, packed, log)
                except (OSError, ValueError, KeyError, ClusterError):  # a killed run left a damaged layout
                    shutil.rmtree(layout, ignore_errors=True)
                    _export(settings, identities, layout, names, packed, log)
            packed.replace(target)
        _forget_old(target.parent.glob("*.tar"))


def _build_one(settings: Settings, image: Target, options: list[str], log: Path) -> str:
    """Build one image; returns its id."""
    with tempfile.NamedTemporaryFile(dir=settings.cache / "images", prefix=".new.") as identity:
        local = f"localhost/{image.name}:{settings.version}"
        words = ["bud", *options, f"--target={image.target}", f"--tag={local}", f"--iidfile={identity.name}"]
        logged(_buildah(settings, *words, settings.repository), log, what=f"building {image.name}", downloads=True)
        return Path(identity.name).read_text().strip().removeprefix("sha256:")


def _export(
    settings: Settings, identities: Mapping[str, str], layout: Path, names: Mapping[str, str], packed: Path, log: Path
) -> None:
    """Bring the OCI layout up to date and write it as an archive.

    An image that is in the layout already is left alone: compressing it again takes longer than building it.
    """
    for tag, identity in identities.items():
        record = layout / f"{tag}.id"
        if record.exists() and record.read_text() == identity and tag in archives.tags(layout):
            continue
        record.unlink(missing_ok=True)
        push = ["push", "--compression-format=zstd", "--compression-level=1", identity, f"oci:{layout}:{tag}"]
        logged(_buildah(settings, *push), log, what=f"exporting {tag}")
        record.write_text(identity)
    archives.pack(layout, names, packed)


def _forget_old(files: Iterable[Path]) -> None:
    for old in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)[_KEPT:]:
        old.unlink(missing_ok=True)
