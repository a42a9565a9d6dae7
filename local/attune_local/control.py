"""A small part of the Kubernetes API on loopback, for the command line and for tests (docs/attune-up.md has its contract).

List, get, merge patch, server-side apply, create, delete, and a pod's log; answers and errors have Kubernetes' shape. Sensors
and Rules are judged by our definitions on their way in, as an API server does. Only who can read the token file may use it.
"""

import asyncio
import hmac
import json
import re
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from attune_local.admission.checks import shown
from attune_local.admission.definition import definitions
from attune_local.objects import fields
from attune_local.objects.store import ObjectStore
from attune_operator.public.backend import ClusterError
from attune_operator.public.objects import EVENT, NAMESPACE, POD, RULE, SENSOR, WATCHED, Kind, Object

_log = structlog.stdlib.get_logger(__name__)

_KINDS: Final = (SENSOR, RULE, NAMESPACE, EVENT, *WATCHED)
_PATH: Final = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>status|log))?)?"
)
_REASONS: Final = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed", 409: "Conflict",
    415: "UnsupportedMediaType", 422: "Invalid",
}  # fmt: skip
_BODY_LIMIT: Final = 4 * 1024 * 1024
_LOG_TAIL: Final = 10_000


def status(code: int, message: str) -> web.Response:
    """A failure as Kubernetes says it."""
    body = {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": _REASONS.get(code, "InternalError"), "message": message,
    }  # fmt: skip
    return web.json_response(body, status=code)


class Control:
    """The server. ``log_file`` says where a pod's output is kept."""

    def __init__(self, store: ObjectStore, *, token: str, log_file: Callable[[Object], Path]) -> None:
        self._store = store
        self._token = token
        self._log_file = log_file
        self._runner: web.AppRunner | None = None

    async def start(self, *, port: int) -> None:
        """Begin to answer on loopback.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application(client_max_size=_BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def stop(self) -> None:
        """Stop answering."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token.encode()):
            return status(401, "Unauthorized")
        try:
            return await self._route(request)
        except ClusterError as error:
            return status(error.status or 500, str(error))
        except ValueError as error:
            return status(400, str(error))

    async def _route(self, request: web.Request) -> web.StreamResponse:
        match = _PATH.fullmatch(request.path)
        kind = self._kind(match) if match is not None else None
        if match is None or kind is None:
            return status(404, "the server could not find the requested resource")
        namespace, name, sub = match["namespace"], match["name"], match["sub"]
        if name is None:
            if request.method == "GET":
                return self._list(kind, namespace, request.query.get("labelSelector", ""))
            if request.method == "POST":
                body = self._admitted(kind, namespace, None, await self._body(request))
                return web.json_response(self._store.create(kind, body, manager=_manager(request)), status=201)
        elif sub == "log" and kind == POD and request.method == "GET":
            return await self._log_of(self._store.need(POD, namespace, name), request.query.get("tailLines", ""))
        elif request.method == "GET":
            return web.json_response(self._store.need(kind, namespace, name))
        elif request.method == "PATCH":
            return await self._patch(request, kind, namespace, name, sub)
        elif request.method == "DELETE":
            self._store.delete(kind, namespace, name)
            return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})
        return status(405, f"{request.method} is not possible here")

    @staticmethod
    def _kind(match: re.Match[str]) -> Kind | None:
        for kind in _KINDS:
            if (kind.group, kind.version, kind.plural) == (match["group"] or "", match["version"], match["plural"]):
                return kind
        return None

    def _list(self, kind: Kind, namespace: str | None, labels: str) -> web.Response:
        items = self._store.list_objects(kind, namespace, labels=labels)
        body = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": {}, "items": items}
        return web.json_response(body)

    async def _patch(
        self, request: web.Request, kind: Kind, namespace: str | None, name: str, sub: str | None
    ) -> web.Response:
        patch = await self._body(request)
        manager = _manager(request)
        if request.content_type.startswith("application/apply-patch"):
            body = self._admitted(kind, namespace, name, patch)
            return web.json_response(self._store.apply(kind, body, manager=manager))
        if request.content_type not in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
            return status(415, "send application/merge-patch+json or application/apply-patch+yaml")
        if sub is None:
            before = self._store.need(kind, namespace, name)
            self._admitted(kind, namespace, name, fields.merged(before, patch))
        after = self._store.merge(kind, namespace, name, patch, manager=manager, subresource=sub)
        return web.json_response(after)

    @staticmethod
    async def _body(request: web.Request) -> Object:
        try:
            body = json.loads(await request.text())
        except ValueError:
            # Server-side apply is YAML by its name; what we are sent is JSON, as a rule.
            import yaml

            try:
                body = yaml.safe_load(await request.text())
            except yaml.YAMLError as error:
                raise ValueError(f"the body is neither JSON nor YAML: {error}") from None
        if not isinstance(body, dict):
            raise ValueError("the body must be an object")
        return body

    @staticmethod
    def _admitted(kind: Kind, namespace: str | None, name: str | None, body: Object) -> Object:
        """What is stored.

        Raises:
            ClusterError: our definitions do not allow it (422).
        """
        metadata = {**(body.get("metadata") or {})}
        if kind.namespaced:
            metadata["namespace"] = namespace or metadata.get("namespace") or "default"
        if name is not None:
            metadata["name"] = name
        if not isinstance(metadata.get("name"), str):
            raise ClusterError("metadata.name: is required", status=422)
        body = {**body, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        if kind.kind not in definitions():
            return body
        admitted, faults = definitions()[kind.kind].admit(body)
        if faults:
            said = "; ".join(f"{shown(fault.path)}: {fault.message}" for fault in faults)
            raise ClusterError(f'{kind.kind}.{kind.group} "{metadata["name"]}" is invalid: {said}', status=422)
        return admitted

    async def _log_of(self, pod: Object, tail: str) -> web.Response:
        count = int(tail) if tail.isdigit() else _LOG_TAIL
        lines = await asyncio.to_thread(_tail, self._log_file(pod), count)
        return web.Response(text=lines)


def _tail(path: Path, count: int) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return "".join(deque(file, maxlen=count))
    except FileNotFoundError:
        return ""


def _manager(request: web.Request) -> str:
    return request.query.get("fieldManager") or "attune"
