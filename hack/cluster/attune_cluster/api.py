"""As much of a Kubernetes client as starting a cluster takes, on the standard library."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .certificates import Pair

Object = dict[str, Any]

PLURALS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "PersistentVolume": "persistentvolumes",
    "StorageClass": "storageclasses",
}
"""The kinds that are applied from here; all of them belong to the whole cluster."""


class ApiError(Exception):
    """The API server answered with an error; `status` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """One client, authenticated by a certificate; opens a connection per request, as requests here are few."""

    def __init__(self, server: str, *, authority: Path, client: Pair) -> None:
        address = urlsplit(server)
        self._host, self._port = address.hostname or "", address.port or 443
        self._tls = ssl.create_default_context(cafile=str(authority))
        self._tls.load_cert_chain(client.certificate, client.key)

    def request(self, method: str, path: str, body: Object | None = None, *, kind: str = "application/json") -> Object:
        """Send one request; raises `ApiError` for an error status and `OSError` where there is no answer."""
        connection = http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=10)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": kind, "Accept": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except http.client.HTTPException as problem:
            raise OSError(str(problem)) from problem
        finally:
            connection.close()
        if answer.status >= 400:
            raise ApiError(answer.status, text.decode(errors="replace")[:400])
        parsed: Any = json.loads(text) if text[:1] == b"{" else {}
        return parsed if isinstance(parsed, dict) else {}

    def ready(self) -> bool:
        """Whether the API server says that all its parts are ready."""
        try:
            self.request("GET", "/readyz")
        except (OSError, ApiError):
            return False
        return True

    def apply(self, objects: Iterable[Object]) -> None:
        """Server-side apply of objects of the kinds in `PLURALS`."""
        for item in objects:
            group = "api/v1" if item["apiVersion"] == "v1" else f"apis/{item['apiVersion']}"
            path = f"/{group}/{PLURALS[item['kind']]}/{item['metadata']['name']}?fieldManager=attune-cluster&force=true"
            self.request("PATCH", path, item, kind="application/apply-patch+yaml")
