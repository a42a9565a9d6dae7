"""Writes what the image of the NATS server consists of, as CycloneDX: python hack/sbom/nats_sbom.py FILE

From the program itself: Go writes the modules that it was built from into it, with their hashes. Hashes of modules are those
of go.sum, as cyclonedx-gomod writes them.
"""

import argparse
import base64
import hashlib
import re
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot5
from packageurl import PackageURL

from attune_cluster import golang, nats_server
from attune_cluster.commands import capture
from attune_cluster.settings import Settings

_MODULE = re.compile(r"^\t(?P<what>mod|dep)\t(?P<name>\S+)\t(?P<version>\S+)\th1:(?P<digest>\S+)$", re.MULTILINE)
_GO = re.compile(r": go(?P<version>[\d.]+)$", re.MULTILINE)


def bill(about: str, *, digest: str) -> Bom:
    """Return the bill of materials.

    Args:
        about: what `go version -m` says of the program.
        digest: the program's SHA-256, in hexadecimal digits.

    Raises:
        ValueError: `about` does not say what a program is made of.
    """
    go, modules = _GO.search(about), list(_MODULE.finditer(about))
    if go is None or [found["what"] for found in modules].count("mod") != 1:
        raise ValueError(
            f"this is not what `go version -m` says of a program that was built from modules: {about[:200]!r}"
        )
    bom = Bom()
    parts = [_component("std", go["version"])]
    for found in modules:
        if found["what"] == "mod":
            hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
            bom.metadata.component = _component(found["name"], found["version"], ComponentType.APPLICATION, hashes)
        content = base64.b64decode(found["digest"]).hex()
        parts.append(
            _component(found["name"], found["version"], hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content)])
        )
    bom.components.update(parts)
    return bom


def _component(
    name: str, version: str, kind: ComponentType = ComponentType.LIBRARY, hashes: list[HashType] | None = None
) -> Component:
    namespace, _, short = name.rpartition("/")
    purl = PackageURL("golang", namespace or None, short, version)
    reference = f"{kind.value}:{purl.to_string()}"
    return Component(name=name, version=version, type=kind, bom_ref=reference, purl=purl, hashes=hashes or [])


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    target: Path = parser.parse_args().file
    settings = Settings.from_environment()
    program = nats_server.nats_server(settings)
    about = capture([golang.toolchain(settings).program, "version", "-m", program])
    bom = bill(about, digest=hashlib.sha256(program.read_bytes()).hexdigest())
    target.write_text(JsonV1Dot5(bom).output_as_string(indent=2) + "\n")


if __name__ == "__main__":
    main()
