"""Sensors, Rules and other objects, through the Kubernetes REST API."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

from attune_cli.errors import NotFoundError, UnreachableError
from attune_cli.targets.http import TIMEOUT, BearerAuth, clock_ahead, failure, said, unreachable
from attune_cli.targets.httpx_client import httpx
from attune_contract.names import API_VERSION
from attune_kit.kubernetes.access import Access

Object = dict[str, Any]
_MERGE: Final = {"Content-Type": "application/merge-patch+json"}
#: Objects in one answer of a list.
PAGE: Final = 500
#: Kubernetes' own names of what changed an object (``managedFields``, rule history).
FIELD_MANAGER: Final = "attune-cli"


class Kube:
    """A client of a Kubernetes API server, or of an ``attune up``, which serves the same requests.

    Args:
        access: where and as whom.
        who: its name in messages.
    """

    def __init__(self, access: Access, *, who: str = "The cluster") -> None:
        self.access = access
        self._who = who
        self._client = httpx.Client(
            base_url=access.server,
            verify=access.verify,
            headers=access.headers,
            auth=BearerAuth(access.bearer, server_name=access.server_name),
            proxy=access.proxy,
            timeout=TIMEOUT,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def request(self, method: str, path: str, *, what: str = "", **options: Any) -> Any:
        """Send a request and decode the answer.

        Args:
            method: of HTTP.
            path: from ``/`` on.
            what: the object, for messages: ``Rule default/x``.
            options: as httpx takes them.

        Raises:
            CliError: no answer, or an error.
        """
        return self._decoded(self._answer(method, path, what, options))

    def text(self, path: str, *, what: str = "", **options: Any) -> str:
        """Like :meth:`request`, of what is no JSON: a log."""
        return self._answer("GET", path, what, options).text

    def version(self) -> tuple[Mapping[str, Any], timedelta | None]:
        """Of the server, and how far its clock is ahead of ours; None where it does not say.

        Raises:
            CliError: no answer, or an error.
        """
        answer = self._answer("GET", "/version", "", {})
        return self._decoded(answer), clock_ahead(answer)

    def _decoded(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise UnreachableError(f"{self._who} at {self.access.server} does not answer with JSON.") from None

    def _answer(self, method: str, path: str, what: str, options: Mapping[str, Any]) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise unreachable(self._who, self.access.server, error) from None
        if answer.is_success:
            return answer
        text = said(answer, "message")
        if answer.status_code == 404 and what:
            # The kind itself is unknown there, not only the object.
            if "the server could not find the requested resource" in text or "page not found" in text:
                raise NotFoundError(
                    f"{self._who} at {self.access.server} knows no Sensors and Rules; is Attune installed there?"
                )
            raise NotFoundError(f"There is no {what}.")
        if answer.status_code == 401:
            text = f"it does not know you ({text}). Your credentials are from {self.access.origin}"
        raise failure(answer.status_code, f"{self._who} refused {what or path}: {text.rstrip('.')}.")

    def pages(
        self, path: str, params: Mapping[str, str], *, what: str = "", **options: Any
    ) -> Iterator[Mapping[str, Any]]:
        """The answers with a list's objects, a page in each.

        Args:
            path: of the list.
            params: of the query, such as its selectors.
            what: what is listed, for messages.
            options: as httpx takes them, for each request.

        Raises:
            CliError: there is no answer, or an error. What was read before is good.
        """
        asked = {"limit": str(PAGE), **params}
        while True:
            answer = self.request("GET", path, what=what, params=asked, **options)
            yield answer
            if not (more := (answer.get("metadata") or {}).get("continue")):
                return
            asked["continue"] = more

    def items(self, path: str, params: Mapping[str, str], *, what: str = "", **options: Any) -> Iterator[Object]:
        """The objects of a list, as :meth:`pages` reads it."""
        for answer in self.pages(path, params, what=what, **options):
            yield from answer.get("items") or ()

    def pods(self, namespace: str | None, selector: str = "") -> list[Object]:
        """The pods of a namespace, or of all of them (None), with labels that the selector wants."""
        inside = f"/namespaces/{quote(namespace)}" if namespace else ""
        what = f"pods in {namespace}" if namespace else ""
        query = {"labelSelector": selector} if selector else {}
        return [*self.items(f"/api/v1{inside}/pods", query, what=what)]

    def list(self, plural: str, namespace: str | None, *, selector: str = "") -> list[Object]:
        """All Sensors (or Rules) of a namespace, or of all of them (None)."""
        query = {"labelSelector": selector} if selector else {}
        return [*self.items(_path(plural, namespace), query, what="such kind")]

    def get(self, plural: str, namespace: str, name: str) -> Object:
        """One Sensor or Rule.

        Raises:
            NotFoundError: there is none with that name.
        """
        found: Object = self.request("GET", _path(plural, namespace, name), what=_called(plural, namespace, name))
        return found

    def namespaces_of(self, plural: str, name: str) -> tuple[str, ...]:
        """The namespaces that have a Sensor (or Rule) of that name."""
        found = self.items(_path(plural, None), {"fieldSelector": f"metadata.name={name}"}, what="such kind")
        # The control API of ``attune up`` knows no field selectors.
        return tuple(sorted(body["metadata"]["namespace"] for body in found if body["metadata"]["name"] == name))

    def patch(self, plural: str, namespace: str, name: str, change: Mapping[str, Any]) -> Object:
        """Change fields of a Sensor or Rule (RFC 7396), and return the object."""
        changed: Object = self.request(
            "PATCH",
            _path(plural, namespace, name),
            what=_called(plural, namespace, name),
            json=change,
            headers=_MERGE,
            params={"fieldManager": FIELD_MANAGER},
        )
        return changed

    def core(self, kind: str, namespace: str, name: str = "", **query: str) -> Any:
        """An object of the core group, or a list."""
        path = f"/api/v1/namespaces/{quote(namespace)}/{kind}" + (f"/{quote(name)}" if name else "")
        return self.request("GET", path, what=f"{kind} {name} in {namespace}".replace("  ", " "), params=query)

    def patch_core(self, kind: str, namespace: str, name: str, change: Mapping[str, Any]) -> None:
        """Change an object of the core group (RFC 7396). The answer is not read, because it may be secret."""
        self.request(
            "PATCH",
            f"/api/v1/namespaces/{quote(namespace)}/{kind}/{quote(name)}",
            what=f"{kind} {namespace}/{name}",
            json=change,
            headers=_MERGE,
            params={"fieldManager": FIELD_MANAGER},
        )


def _path(plural: str, namespace: str | None, name: str = "") -> str:
    inside = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"/apis/{API_VERSION}{inside}/{plural}" + (f"/{quote(name, safe='')}" if name else "")


def _called(plural: str, namespace: str, name: str) -> str:
    return f"{plural[:-1].capitalize()} {namespace}/{name}"
