"""What images are built from, as statements: of a real archive and a real repository."""

import hashlib
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from attune_cluster import archives, provenance
from attune_cluster.console import ClusterError
from attune_cluster.settings import Settings

NAME = "docker.io/attune/pause:1"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    program = tmp_path / "pause"
    program.write_bytes(b"program")
    file = tmp_path / "images.tar"
    archives.single_program(program, NAME, file)
    return file


def manifest(archive: Path) -> bytes:
    with tarfile.open(archive) as content:
        index = content.extractfile("index.json")
        assert index is not None
        digest = json.load(index)["manifests"][0]["digest"].removeprefix("sha256:")
        found = content.extractfile(f"blobs/sha256/{digest}")
        assert found is not None
        return found.read()


def test_an_image_is_named_by_the_digest_that_a_registry_would_give_it(archive: Path) -> None:
    assert provenance.digests(archive) == {NAME: hashlib.sha256(manifest(archive)).hexdigest()}


def test_an_archive_whose_manifest_was_exchanged_is_refused(archive: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tar"
    with tarfile.open(archive) as content, tarfile.open(other, "w") as changed:
        for member in content:
            stored = content.extractfile(member)
            assert stored is not None
            data = stored.read()
            if data == manifest(archive):
                data = data.replace(b"application", b"applicatiom")
            member.size = len(data)
            written = tmp_path / "blob"
            written.write_bytes(data)
            with written.open("rb") as file:
                changed.addfile(member, file)
    with pytest.raises(ClusterError, match="is not what its name says"):
        provenance.digests(other)
    (tmp_path / "none.tar").write_bytes(b"nothing")
    with pytest.raises(ClusterError, match="no archive of images"):
        provenance.digests(tmp_path / "none.tar")


def git(repository: Path, *words: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(repository), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_repository_is_named_by_its_commit_and_only_if_that_is_what_is_built(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code").write_text("1")
    (tmp_path / "notes").write_text("1")
    git(tmp_path, "add", "code", "notes")
    git(tmp_path, "commit", "--quiet", "--message=first")
    (tmp_path / "notes").write_text("2")
    found = provenance.repository_input(tmp_path, ["code"])
    assert found.digest == {"gitCommit": git(tmp_path, "rev-parse", "HEAD")}
    (tmp_path / "code").write_text("2")
    with pytest.raises(ClusterError, match=r"Commit first: .*\(code\)"):
        provenance.repository_input(tmp_path, ["code"])


def test_a_statement_says_what_the_image_with_this_digest_is_built_from(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text("pins")
    inputs = [provenance.file_input(tmp_path, "uv.lock")]
    made = provenance.statement(NAME, "ab" * 32, target="pause", inputs=inputs, builder_version="1.2")
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["predicateType"] == "https://slsa.dev/provenance/v1"
    assert made["subject"] == [{"name": NAME, "digest": {"sha256": "ab" * 32}}]
    definition, run = made["predicate"]["buildDefinition"], made["predicate"]["runDetails"]
    assert set(definition) >= {"buildType", "externalParameters", "resolvedDependencies"}  # SLSA requires the first two
    assert definition["externalParameters"] == {"dockerfile": "Dockerfile", "target": "pause"}
    pins = {"uri": "file:uv.lock", "digest": {"sha256": hashlib.sha256(b"pins").hexdigest()}}
    assert definition["resolvedDependencies"] == [pins]
    assert run["builder"]["id"].startswith(definition["buildType"])


def test_a_base_image_with_a_digest_is_named_by_it(tmp_path: Path) -> None:
    digest = "cd" * 32
    settings = Settings(repository=tmp_path, cache=tmp_path, python_image=f"registry.example/python@sha256:{digest}")
    found = provenance.base_input(settings)
    assert found.as_json() == {"uri": "docker://registry.example/python", "digest": {"sha256": digest}}
    made = provenance.base_input(Settings(repository=tmp_path, cache=tmp_path))
    assert set(made.digest) == {"recipe"}


def test_what_the_statements_name_is_there() -> None:
    repository = Path(__file__).parents[3]
    for name in provenance.PINS:
        assert (repository / name).is_file()
