"""Objects as an API server keeps them, as far as the operator and the command line rely on it.

``fields`` is pure (merge patch, server-side apply, who owns what), ``store`` keeps and tells, ``database`` is its file, and
``backend`` is what the operator stands on.
"""

from attune_local.objects.backend import LocalBackend, LocalClient
from attune_local.objects.store import ObjectStore

__all__ = ["LocalBackend", "LocalClient", "ObjectStore"]
