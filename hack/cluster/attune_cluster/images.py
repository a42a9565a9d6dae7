"""`make images`: the project's images, built from its Dockerfile and loaded into the cluster; nothing when nothing changed.

Which images there are is written in `hack/cluster/images.json` and nowhere else; their tag is the project's version. Those
with `"cluster": false` are for sensors that nothing deploys by itself: a cluster does without them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from . import archives, builder, kind, nats_server, node
from .commands import capture, last_line, logged
from .console import ClusterError, say, step
from .layout import CONTAINERD_SOCKET, node_folder
from .settings import IMAGES, Settings
from .sources import content_key, declared

PASSED_ON = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL")
"""Settings of package indexes that a build gets as arguments, where it is set up for them."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image: the Dockerfile's target it is built from, and its name without tag."""

    target: str
    name: str


def images(file: Path = IMAGES) -> list[Image]:
    """The project's images that a cluster gets."""
    entries = json.loads(file.read_text())
    return [Image(target=entry["target"], name=entry["name"]) for entry in entries if entry.get("cluster", True)]


def full_name(name: str, tag: str) -> str:
    """An image's name with registry and tag, as containerd stores it and as `attune/operator` in a pod is understood."""
    return f"docker.io/{name}:{tag}"


def arguments(dockerfile: str) -> dict[str, str]:
    """The build arguments that the environment sets and the Dockerfile declares."""
    known = declared(dockerfile)
    return {name: os.environ[name] for name in PASSED_ON if name in known and name in os.environ}


def _dockerfile(settings: Settings) -> Path:
    dockerfile = settings.repository / "Dockerfile"
    if not dockerfile.exists():
        raise ClusterError(f"There is no {dockerfile}: nothing to build images from.")
    return dockerfile


def build_and_load(settings: Settings, how: str) -> None:
    """Build what changed and make it available in the cluster of type `how`."""
    dockerfile = _dockerfile(settings)
    if how == "local":
        _local(settings)
    elif how == "kind":
        _kind(settings, dockerfile)
    else:
        names = ", ".join(f"{image.name}:{settings.version}" for image in images())
        say(
            f"• CLUSTER=current: nothing is loaded, the cluster pulls {names} itself. Push them to a registry it reaches: "
            "`docker build --target operator -t REGISTRY/attune/operator:TAG .` and `docker push`, for each target, "
            "then install the chart with that registry and tag."
        )


def archive(settings: Settings) -> tuple[str, Path]:
    """The archive with all images as they are in the checkout now, built unless it exists; and the key of its content."""
    dockerfile = _dockerfile(settings)
    base = builder.base_key(settings)
    build = arguments(dockerfile.read_text())
    listed = [f"{image.target}={full_name(image.name, settings.version)}" for image in images()]
    extra = [base, nats_server.program_key(settings), *listed, json.dumps(build, sort_keys=True)]
    key = content_key(settings.repository, dockerfile=dockerfile, extra=extra)
    file = settings.cache / "images" / f"{key}.tar"
    if file.exists():
        file.touch()  # the newest few are kept
        say("• images: nothing changed")
    else:
        # In place of the stage that builds it in an image with Go.
        contexts = {"nats-build": nats_server.nats_server(settings).parent}
        builder.build(settings, dockerfile, images(), arguments=build, contexts=contexts, target=file)
    return key, file


def _local(settings: Settings) -> None:
    inside = node.inside(settings)
    key, file = archive(settings)
    record = node_folder(settings) / "images.key"
    containerd = [*inside, "ctr", f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io", "images"]
    loaded = set(capture([*containerd, "list", "--quiet"]).split())
    names = [full_name(image.name, settings.version) for image in images()]
    if loaded.issuperset(names) and record.exists() and record.read_text() == key:
        return
    with step("loading the images into the node"):
        archives.load(file, into=inside)
        record.write_text(key)


def _kind(settings: Settings, dockerfile: Path) -> None:
    build = arguments(dockerfile.read_text())
    if settings.python_image:
        build["PYTHON_IMAGE"] = settings.python_image
    if settings.go_image:
        build["GO_IMAGE"] = settings.go_image
    names = [f"{image.name}:{settings.version}" for image in images()]
    key = content_key(settings.repository, dockerfile=dockerfile, extra=[*names, json.dumps(build, sort_keys=True)])
    record = settings.state / "kind-images.json"
    if _recorded(record) == {"key": key, "ids": kind.loaded(settings, names)}:
        say("• images: nothing changed")
        return
    log = settings.logs / "images.log"
    for image, name in zip(images(), names, strict=True):
        options = [f"--build-arg={argument}={value}" for argument, value in build.items()]
        with step(f"building {name}", detail=lambda: last_line(log)):
            command = ["docker", "build", f"--target={image.target}", f"--tag={name}", *options]
            try:
                logged([*command, str(settings.repository)], log, what=f"building {name}")
            except ClusterError as problem:
                raise ClusterError(
                    f"{problem}\nWithout a registry: ATTUNE_PYTHON_IMAGE=<a base image that is here already> "
                    "and ATTUNE_GO_IMAGE=<one with Go>, or CLUSTER=local."
                ) from problem
    kind.load_images(settings, names)
    ids = kind.loaded(settings, names)
    if all(ids.values()):
        record.write_text(json.dumps({"key": key, "ids": ids}))


def _recorded(file: Path) -> object:
    """What was loaded last: the content's key, and the images' ids in the node."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None
