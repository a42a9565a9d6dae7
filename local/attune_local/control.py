"""A small part of the Kubernetes API on loopback, for the command line and for tests (docs/attune-up.md has its contract).

List, get, merge patch, server-side apply, create, delete, and a pod's log; answers and errors have Kubernetes' shape. Sensors
and Rules are judged by our definitions on their way in, as an API server does. Only who can read the token file may use it.
"""

import asyncio
import hmac
import json
import re
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from attune_local.admission import metadata as metadata_rules
from attune_local.admission.documents import DocumentError, read
from attune_local.admission.judge import Judgement, judge, knows
from attune_local.admission.violation import Violation, sentence
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
    413: "RequestEntityTooLarge", 415: "UnsupportedMediaType", 422: "Invalid",
}  # fmt: skip
_BODY_LIMIT: Final = 4 * 1024 * 1024
_LOG_TAIL: Final = 10_000
#: Of ``generateName``: five characters are added, and 63 is what most names may have.
_LONGEST_PREFIX: Final = 58


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
        if not self._authorized(request):
            return status(401, "Unauthorized")
        try:
            return await self._route(request)
        except ClusterError as error:
            return status(error.status or 500, str(error))
        except ValueError as error:
            return status(400, str(error))
        except web.HTTPException as error:
            return status(error.status, error.reason)
        except Exception as error:
            _log.exception("request_failed", method=request.method, path=request.path)
            return status(500, f"the request cannot be answered: {type(error).__name__}")

    def _authorized(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        # The header holds bytes, which need not be UTF-8.
        presented = given.strip().encode(errors="surrogateescape")
        return scheme.lower() == "bearer" and hmac.compare_digest(presented, self._token.encode())

    async def _route(self, request: web.Request) -> web.StreamResponse:
        match = _PATH.fullmatch(request.path)
        kind = self._kind(match) if match is not None else None
        if match is None or kind is None:
            return status(404, "the server could not find the requested resource")
        namespace, name, sub = match["namespace"], match["name"], match["sub"]
        if (namespace is not None) != kind.namespaced and not (kind.namespaced and name is None):
            return status(404, "the server could not find the requested resource")
        if name is None:
            if request.method == "GET":
                return self._list(kind, namespace, request.query.get("labelSelector", ""))
            if request.method == "POST" and (namespace is not None) == kind.namespaced:
                body = self._admitted(kind, namespace, None, await self._body(request), strict=_strict(request))
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
            body = self._admitted(kind, namespace, name, patch, strict=_strict(request))
            return web.json_response(self._store.apply(kind, body, manager=manager))
        if request.content_type not in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
            return status(415, "send application/merge-patch+json or application/apply-patch+yaml")
        before = self._store.need(kind, namespace, name)
        after = fields.merged(before, patch)
        self._read(kind, namespace, name, after)
        if (patch.get("metadata") or {}).get("resourceVersion") not in (None, before["metadata"]["resourceVersion"]):
            message = f'{kind.plural} "{name}": the object has been modified; read it again and retry'
            return status(409, message)
        result = self._admitted(kind, namespace, name, after, strict=_strict(request)) if sub is None else None
        merged = self._store.merge(kind, namespace, name, patch, manager=manager, subresource=sub, result=result)
        return web.json_response(merged)

    @staticmethod
    async def _body(request: web.Request) -> Object:
        text = (await request.read()).decode()
        try:
            # Server-side apply is YAML by its name; what we are sent is JSON, as a rule.
            document = read(text)
        except DocumentError as error:
            raise ValueError(f"the body is neither JSON nor YAML: {error}") from None
        body = document.value if document is not None else None
        if not isinstance(body, dict):
            raise ValueError("the body must be an object")
        return body

    @staticmethod
    def _read(kind: Kind, namespace: str | None, name: str | None, body: Object) -> Object:
        """The object that is meant by the path and the body together.

        Raises:
            ValueError: they contradict each other, or the body is no object of this kind.
        """
        for key, wanted in (("apiVersion", kind.api_version), ("kind", kind.kind)):
            if body.get(key, wanted) != wanted:
                raise ValueError(
                    f"{key}: {metadata_rules.shortened(body[key])} does not match the path, which is of {wanted}"
                )
        given = body.get("metadata")
        if wrong := list(metadata_rules.wrong_types(given)):
            raise ValueError(sentence(wrong))
        metadata = {key: value for key, value in (given or {}).items() if value is not None}
        for key, wanted_ in (("namespace", namespace), ("name", name)):
            if wanted_ is not None:
                if metadata.get(key) not in (None, "", wanted_):
                    raise ValueError(
                        f"metadata.{key}: {metadata[key]!r} does not match the path, which says {wanted_!r}"
                    )
                metadata[key] = wanted_
        return {**body, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}

    @classmethod
    def _admitted(cls, kind: Kind, namespace: str | None, name: str | None, body: Object, *, strict: bool) -> Object:
        """What is stored. ``strict``: unknown fields are an error (``fieldValidation=Strict``).

        Raises:
            ClusterError: an API server would not store it (422).
            ValueError: an API server could not read it (400).
        """
        body = cls._read(kind, namespace, name, body)
        metadata = body["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"][:_LONGEST_PREFIX] + secrets.token_hex(3)[:5]
        if not knows(kind.api_version, kind.kind):
            invalid = tuple(metadata_rules.violations(metadata, namespaced=kind.namespaced))
            judgement = Judgement(stored=body, invalid=invalid)
        else:
            judgement = judge(body, strict=strict)
        if judgement.unreadable:
            raise ValueError(sentence(judgement.unreadable))
        if judgement.invalid:
            raise _invalid(kind, str(metadata.get("name", "")), judgement.invalid)
        return judgement.stored

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


def _invalid(kind: Kind, name: str, violations: Iterable[Violation]) -> ClusterError:
    full = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    return ClusterError(f"{full} {json.dumps(name)} is invalid: {sentence(violations)}", status=422)


def _strict(request: web.Request) -> bool:
    return request.query.get("fieldValidation") == "Strict"


def _manager(request: web.Request) -> str:
    return request.query.get("fieldManager") or "attune"
