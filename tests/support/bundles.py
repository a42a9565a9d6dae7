"""Bundles that ``attune doctor`` writes."""

import tarfile
from pathlib import Path


def contents(bundle: Path) -> dict[str, str]:
    """The bundle's files by their path, without its folder."""
    with tarfile.open(bundle) as archive:
        found = {}
        for entry in archive:
            file = archive.extractfile(entry)
            assert file is not None
            found[entry.name.partition("/")[2]] = file.read().decode()
        return found
