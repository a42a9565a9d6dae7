"""Puts what the console and its tests take from npm where they are kept: pinned by version and checksum, nothing is built.

``make console-assets`` writes the files; they are committed, so that neither an installation nor a test needs npm.
"""

import base64
import hashlib
import io
import sys
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
REGISTRY: Final = "https://registry.npmjs.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package of npm.

    Attributes:
        name: its name.
        version: its version.
        integrity: its checksum, as the registry has it (``dist.integrity``).
        files: what is taken from it, and where that is kept.
    """

    name: str
    version: str
    integrity: str
    files: dict[str, Path]


ASSETS: Final = Path("api/attune_api/console/assets")
AXE: Final = Path("tests/support/axe")
PACKAGES: Final = (
    Package(
        name="htmx.org",
        version="2.0.11",
        integrity="sha512-Thx/WtpeOQqSrqBCw/A1cwGJGg4UrVa3+sW0GmrM3p4gJgO89ecH4qtbnyzDDWFvBTqjnIMCgELTNt636dtamA==",
        files={"dist/htmx.min.js": ASSETS / "htmx.min.js", "LICENSE": ASSETS / "htmx.LICENSE.txt"},
    ),
    Package(
        name="axe-core",
        version="4.14.1",
        integrity="sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
        files={"axe.min.js": AXE / "axe.min.js", "LICENSE": AXE / "LICENSE.txt"},
    ),
)


def take(package: Package) -> None:
    """Write a package's files."""
    url = f"{REGISTRY}/{package.name}/-/{package.name}-{package.version}.tgz"
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - https, written above
        content = answer.read()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if digest != package.integrity:
        sys.exit(f"{url} has the checksum {digest}, and not {package.integrity}: nothing was written.")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for name, target in package.files.items():
            file = archive.extractfile(f"package/{name}")
            if file is None:
                sys.exit(f"{url} has no file {name}.")
            (ROOT / target).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / target).write_bytes(file.read())
            sys.stdout.write(f"{target}\n")


if __name__ == "__main__":
    for each in PACKAGES:
        take(each)
