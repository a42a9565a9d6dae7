"""What is built again, and what is not: the keys of programs and images."""

import json
import os
import shutil
import tarfile
import time
from pathlib import Path

import pytest

from attune_cluster import archives, builder, nats_server, sources, tools
from attune_cluster.console import ClusterError
from attune_cluster.golang import Go
from attune_cluster.images import archive as image_archive
from attune_cluster.images import full_name, images
from attune_cluster.settings import GO_FROM_PYPI, KUBERNETES, MODULE, Settings

DOCKERFILE = """
ARG PYTHON_IMAGE=python:3.13-slim
FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL
# COPY commented/out /x
COPY pyproject.toml uv.lock \\
     ./
COPY --chown=1:1 ["with space", "/dst"]
RUN --mount=type=bind,source=scripts,target=/s --mount=type=cache,target=/c sh /s/x
FROM scratch
COPY --from=build /opt /opt
ADD https://example.com/file /file
COPY src/*.py /src/
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "uv.lock", "with space/a", "scripts/x", "src/a.py", "src/b.txt", "docs/readme"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    return tmp_path


def key(context: Path, *extra: str) -> str:
    return sources.content_key(context, dockerfile=context / "Dockerfile", extra=extra)


def test_a_dockerfile_says_what_it_copies_from_the_context() -> None:
    assert sources.copied(DOCKERFILE) == ["pyproject.toml", "uv.lock", "with space", "scripts", "src/*.py"]


def test_a_dockerfile_says_which_build_arguments_it_knows() -> None:
    assert sources.declared(DOCKERFILE) == {"PYTHON_IMAGE", "PIP_INDEX_URL"}


@pytest.mark.parametrize("name", ["pyproject.toml", "with space/a", "scripts/x", "src/a.py", "Dockerfile"])
def test_a_change_of_anything_that_is_copied_builds_again(context: Path, name: str) -> None:
    before = key(context)
    with (context / name).open("a") as file:
        file.write("\n")
    assert key(context) != before


@pytest.mark.parametrize("name", ["docs/readme", "src/b.txt", "scripts/__pycache__/x.pyc", "scripts/y.pyc"])
def test_a_change_of_anything_else_builds_nothing(context: Path, name: str) -> None:
    before = key(context)
    (context / name).parent.mkdir(exist_ok=True)
    (context / name).write_text("other")
    assert key(context) == before


def test_names_modes_and_build_arguments_count_but_times_do_not(context: Path) -> None:
    before = key(context)
    os.utime(context / "src/a.py", (time.time() + 100, time.time() + 100))
    assert key(context) == before
    assert key(context, "argument") != before
    assert key(context, "a", "b") != key(context, "ab")
    (context / "scripts/x").chmod(0o755)
    assert key(context) != before
    (context / "scripts/x").chmod(0o644)
    (context / "src/a.py").rename(context / "src/c.py")
    assert key(context) != before


def test_the_project_s_images_are_named_in_one_place(tmp_path: Path) -> None:
    assert {image.target: full_name(image.name, "1.2") for image in images()} == {
        "operator": "docker.io/attune/operator:1.2",
        "api": "docker.io/attune/api:1.2",
        "actions": "docker.io/attune/actions:1.2",
        "sensor-timer": "docker.io/attune/sensor-timer:1.2",
        "sensor-webhook": "docker.io/attune/sensor-webhook:1.2",
        "sensor-kubernetes": "docker.io/attune/sensor-kubernetes:1.2",
        "sensor-stdio": "docker.io/attune/sensor-stdio:1.2",
        "sensor-stdio-node": "docker.io/attune/sensor-stdio-node:1.2",
        "nats": "docker.io/attune/nats:1.2",
    }
    settings = Settings(repository=tmp_path, cache=tmp_path)
    assert settings.version == "0.1.0"
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "3.2.1"\n')
    assert settings.version == "3.2.1"


def test_the_programs_key_covers_sources_and_pinned_versions(tmp_path: Path) -> None:
    module = tmp_path / "module"
    shutil.copytree(MODULE, module)
    before = tools.module_key(module)
    assert before == tools.module_key(MODULE)
    (module / "README.md").write_text("not built")
    assert tools.module_key(module) == before
    for name in ("go.sum", "go.mod", "main.go", "clients/main.go"):
        with (module / name).open("a") as file:
            file.write("\n")
        after = tools.module_key(module)
        assert after != before, name
        before = after


def test_another_release_of_go_gives_another_nats_server_and_other_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(repository=tmp_path, cache=tmp_path, python_image="docker.io/python")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    used: Go | None = None
    monkeypatch.setattr(nats_server, "installed", lambda: used)
    monkeypatch.setattr(builder, "build", lambda *_, contexts, **__: built.append(contexts["nats-build"].name))
    built: list[str] = []

    def program(version: str) -> Path:
        file = tmp_path / "nats-server" / f"{nats_server.module_key()}-{version}" / "nats-server"
        file.parent.mkdir(parents=True)
        file.write_text(version)
        return file

    keys = set()
    for number, version in enumerate(("go1.26.6", "go1.26.7"), start=1):
        used = Go(program=tmp_path / "go", version=version)
        file = program(version)
        assert nats_server.nats_server(settings) == file
        assert nats_server.program_key(settings) == file.parent.name
        key, _ = image_archive(settings)
        keys.add(key)
        assert len(keys) == number
        assert built[-1] == file.parent.name
    # Without Go, the program that is there; before there is one, what will be built.
    used = None
    assert nats_server.program_key(settings) == nats_server.nats_server(settings).parent.name
    elsewhere = Settings(repository=tmp_path, cache=tmp_path / "empty")
    assert nats_server.program_key(elsewhere) == f"{nats_server.module_key()}-go{GO_FROM_PYPI}"


def test_the_module_pins_the_kubernetes_version_that_is_reported() -> None:
    lines = (MODULE / "go.mod").read_text()
    assert f"k8s.io/kubernetes v{KUBERNETES}\n" in lines
    assert f"k8s.io/api => k8s.io/api v0.{KUBERNETES.removeprefix('1.')}\n" in lines
    assert f"version.gitVersion=v{KUBERNETES} " in tools.link_flags() + " "


def test_an_unknown_tool_is_named_and_so_are_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"no tool kubeclt; there are .*kubectl.*nats-server"):
        tools.tools(Settings(repository=tmp_path, cache=tmp_path), ["kubeclt", "etcd"])


def test_the_cache_is_where_the_environment_says() -> None:
    assert Settings.from_environment({"HOME": "/h"}).cache == Path("/h/.cache/attune-dev")
    assert Settings.from_environment({"HOME": "/h", "XDG_CACHE_HOME": "/x"}).cache == Path("/x/attune-dev")
    assert Settings.from_environment({"XDG_CACHE_HOME": "/x", "ATTUNE_CACHE": "/a"}).cache == Path("/a")


def test_a_program_s_archive_is_a_complete_image(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"program")
    archives.single_program(program, "localhost/pause:1", tmp_path / "image.tar")
    layout = tmp_path / "layout"
    with tarfile.open(tmp_path / "image.tar") as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(layout, filter="data")
        else:  # Python 3.11.2 and 3.11.3
            archive.extractall(layout)
    manifest = json.loads((layout / "index.json").read_text())["manifests"][0]
    assert manifest["annotations"] == {"io.containerd.image.name": "localhost/pause:1"}
    blob = layout / "blobs/sha256"
    content = json.loads((blob / manifest["digest"].removeprefix("sha256:")).read_text())
    config = json.loads((blob / content["config"]["digest"].removeprefix("sha256:")).read_text())
    assert config["config"]["Entrypoint"] == ["/pause"]
    assert config["rootfs"]["diff_ids"] == [content["layers"][0]["digest"]]
    with tarfile.open(blob / content["layers"][0]["digest"].removeprefix("sha256:")) as layer:
        assert layer.getmember("pause").mode == 0o755


def exported(layout: Path, *images: str) -> None:
    """An OCI layout as buildah leaves it: images by tag, one that lost its tag, blobs nobody needs."""
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    for name in ("shared", "c1", "c2", "unused"):
        (blobs / name).write_text(name)
    manifests: list[dict[str, object]] = [{"digest": "sha256:gone"}]
    for number, tag in enumerate(images, start=1):
        layers = [{"digest": "sha256:shared"}]
        (blobs / f"m{number}").write_text(json.dumps({"config": {"digest": f"sha256:c{number}"}, "layers": layers}))
        annotations = {"org.opencontainers.image.ref.name": tag}
        manifests.append({"digest": f"sha256:m{number}", "annotations": annotations})
    (layout / "index.json").write_text(json.dumps({"manifests": manifests}))


def test_images_are_packed_under_their_full_names_and_share_layers(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    exported(layout, "operator", "api")
    archives.pack(layout, {"operator": "docker.io/o:1", "api": "docker.io/a:1"}, tmp_path / "images.tar")
    with tarfile.open(tmp_path / "images.tar") as archive:
        names = archive.getnames()
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
    assert sorted(names) == [
        *(f"blobs/sha256/{n}" for n in ("c1", "c2", "m1", "m2", "shared")),
        "index.json",
        "oci-layout",
    ]
    assert [m["annotations"]["io.containerd.image.name"] for m in index["manifests"]] == [
        "docker.io/o:1",
        "docker.io/a:1",
    ]
    assert not (layout / "blobs/sha256/unused").exists(), "what no image needs is removed"
    assert sorted(archives.tags(layout)) == ["api", "operator"]


def test_an_image_that_is_missing_from_the_layout_is_an_error(tmp_path: Path) -> None:
    exported(tmp_path / "layout", "operator")
    with pytest.raises(ClusterError, match="has no api"):
        archives.pack(tmp_path / "layout", {"operator": "o", "api": "a"}, tmp_path / "images.tar")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_layout_has_no_images(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    assert archives.tags(tmp_path) == {}


def test_builds_see_all_that_the_dockerfile_copies() -> None:
    repository = Path(__file__).parents[3]
    seen = {
        line.removeprefix("!") for line in (repository / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    assert set(sources.copied((repository / "Dockerfile").read_text())) == seen
