"""Puts what the console takes from npm into its package: pinned by version and checksum, so that nothing is built anywhere.

``make console-assets`` writes the files; they are committed. A test keeps them equal to the checksums below.
"""

import base64
import hashlib
import io
import sys
import tarfile
import urllib.request
from pathlib import Path
from typing import Final

REGISTRY: Final = "https://registry.npmjs.org"
PACKAGE: Final = "htmx.org"
VERSION: Final = "2.0.11"
#: Of the package, as the registry has it (``dist.integrity``).
INTEGRITY: Final = "sha512-Thx/WtpeOQqSrqBCw/A1cwGJGg4UrVa3+sW0GmrM3p4gJgO89ecH4qtbnyzDDWFvBTqjnIMCgELTNt636dtamA=="
#: What is taken from it, under which name.
FILES: Final = {"package/dist/htmx.min.js": "htmx.min.js", "package/LICENSE": "htmx.LICENSE.txt"}


def main(folder: Path) -> None:
    """Write the files into ``folder``."""
    url = f"{REGISTRY}/{PACKAGE}/-/{PACKAGE}-{VERSION}.tgz"
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - https, written above
        content = answer.read()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if digest != INTEGRITY:
        sys.exit(f"{url} has the checksum {digest}, and not {INTEGRITY}: nothing was written.")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for name, target in FILES.items():
            file = archive.extractfile(name)
            if file is None:
                sys.exit(f"{url} has no file {name}.")
            (folder / target).write_bytes(file.read())
            sys.stdout.write(f"{folder / target}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
