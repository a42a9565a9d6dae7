"""Manifests as files: which there are, when they may be read, what they say, and what the store holds because of them.

``admission.files`` finds them, ``writers`` tells which are being written, ``kustomize`` renders, ``reading`` reads what has
changed, and ``follow`` brings the store to it.
"""

from attune_local.manifests.follow import MANAGER, MANIFEST, Manifests
from attune_local.manifests.reading import Reader, Scan

__all__ = ["MANAGER", "MANIFEST", "Manifests", "Reader", "Scan"]
