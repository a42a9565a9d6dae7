"""From a request to a visitor, and from what went wrong to a page that says so.

A page is a function of a :class:`Visit`. :func:`reading` and :func:`writing` turn it into a route: they find out who calls,
refuse what another site sends, and answer every fault with a page.
"""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Final, ParamSpec
from urllib.parse import parse_qsl, quote, urlencode

import structlog
from fastapi import Request
from fastapi.responses import Response

from attune_api.console.answers import page
from attune_api.console.listing import Listing
from attune_api.console.session import Session, same_secret, written_here
from attune_api.console.state import Console
from attune_api.dependencies import authorization_of
from attune_api.identity.callers import Caller, SensorCaller
from attune_api.identity.cluster import Right
from attune_api.services import Services
from attune_api.storage.database import QueryTooSlowError
from attune_api.storage.faults import OUTAGES, explain
from attune_api.web.bodies import SMALL_BODY_BYTES
from attune_api.web.problems import ProblemError
from attune_kit.kubernetes.client import KubernetesError

log = structlog.get_logger(__name__)

P = ParamSpec("P")
COOKIE: Final = "attune_console"
_FORM: Final = "application/x-www-form-urlencoded"
_MOST_FIELDS: Final = 50
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _UNAVAILABLE = 401, 403, 404, 503


class SignInNeededError(Exception):
    """Nobody is signed in, or no longer; the text says why, and may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who looks at a page: the caller, with the token that all is asked with."""

    caller: Caller
    token: str
    session: Session | None

    @property
    def csrf(self) -> str:
        """What forms bring along; empty where a proxy signs in each request, and where it came from has to do."""
        return "" if self.session is None else self.session.csrf


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request for a page."""

    request: Request
    services: Services
    console: Console
    visitor: Visitor
    form: dict[str, str]

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters that are not empty; of those given twice, the last."""
        return {name: value for name, value in self.request.query_params.items() if value}

    @property
    def bearer(self) -> str:
        """The token for the Kubernetes API.

        Raises:
            KubernetesError: the caller has none.
        """
        return self.console.cluster.bearer(self.visitor.caller, self.visitor.token)

    @property
    def is_fragment(self) -> bool:
        """Whether a part of a page is asked for, by a page that is already shown."""
        return self.request.headers.get("HX-Request") == "true"

    async def namespace(self) -> str:
        """The namespace that was asked for; empty for all.

        Who may not see all is asked once: the namespace that was chosen is kept until another one is.
        """
        session = self.visitor.session
        asked = self.request.query_params.get("namespace")
        if asked is None:
            return "" if session is None else session.namespace
        if session is not None:
            session.namespace = asked if asked and not await self.allows("list", "") else ""
        return asked

    async def allows(self, verb: str, namespace: str, name: str = "", *, resource: str = "rules") -> bool:
        """Whether the caller has a right, by the cluster's RBAC."""
        right = Right(verb=verb, resource=resource, namespace=namespace, name=name)
        return await self.services.access.allows(self.visitor.caller, right)

    async def require(self, verb: str, namespace: str, name: str = "", *, resource: str = "rules") -> None:
        """Go on only with a right.

        Raises:
            ProblemError: 403, which names it.
        """
        right = Right(verb=verb, resource=resource, namespace=namespace, name=name)
        await self.services.access.require(self.visitor.caller, right)

    async def listing(self, plural: str, namespace: str) -> Listing:
        """The Sensors or Rules of a namespace, or of all, if the caller may list them.

        Raises:
            ProblemError: 403, it may not.
            KubernetesError: it has no token for the cluster.
        """
        await self.require("list", namespace, resource=plural)
        return await self.console.listings.of(plural, namespace, bearer=self.bearer)

    def page(self, template: str, *, status: int = 200, **shown: Any) -> Response:
        """A page for this visitor."""
        return page(
            template,
            root=root_of(self.request),
            status=status,
            visitor=self.visitor,
            place=self.request.url.path,
            **shown,
        )


def root_of(request: Request) -> str:
    """What a proxy has put before our paths (ASGI)."""
    return str(request.scope.get("root_path", ""))


def console_of(services: Services) -> Console:
    """The console.

    Raises:
        ProblemError: 404, it is switched off.
    """
    if services.console is None:
        raise ProblemError(
            404,
            "This API has no console; the chart value api.console.enabled (ATTUNE_API_CONSOLE) switches it on.",
            kind="console-off",
        )
    return services.console


def is_secure(request: Request) -> bool:
    """Whether the browser came by TLS, to us or to a proxy in front.

    It says so itself where it sends ``Origin``: with ``attune ui`` TLS begins behind it. (A page's policy of referrers may
    have it send ``null``, which says nothing.)
    """
    scheme, separator, _ = request.headers.get("Origin", "").partition("://")
    if separator:
        return scheme == "https"
    return request.url.scheme == "https" or request.headers.get("X-Forwarded-Proto", "").startswith("https")


async def visitor_of(request: Request, services: Services, console: Console) -> Visitor:
    """Who calls: by the session's cookie, or by what a proxy sends if there is one.

    Raises:
        SignInNeededError: nobody does.
        ProblemError: 503, it cannot be found out; 400, two headers.
    """
    session = console.sessions.find(request.cookies.get(COOKIE))
    if session is not None:
        token = session.token
    elif console.proxied and (header := authorization_of(request)):
        token = header.partition(" ")[2].strip()
    else:
        raise SignInNeededError("")
    try:
        caller = await services.access.caller(f"Bearer {token}")
    except ProblemError as problem:
        if problem.status != _UNAUTHORIZED:
            raise
        if session is not None:
            console.sessions.end(session)
        raise SignInNeededError("Your token is no longer accepted: it has expired, or was withdrawn.") from None
    if isinstance(caller, SensorCaller):
        raise SignInNeededError("A sensor's token is for its events alone. Sign in with your own.")
    console.used()
    return Visitor(caller=caller, token=token, session=session)


def require_own_page(request: Request) -> None:
    """Refuse a write that another site has made a browser send.

    Raises:
        ProblemError: 403.
    """
    headers = request.headers
    hosts = frozenset(host.lower() for name in ("host", "x-forwarded-host") for host in headers.getlist(name))
    if not written_here(site=headers.get("sec-fetch-site"), origin=headers.get("origin"), hosts=hosts):
        log.warning("console_foreign_write", path=request.url.path)
        raise ProblemError(403, "This came from another site, so nothing was done.", kind="foreign-request")


async def read_form(request: Request, services: Services) -> dict[str, str]:
    """The fields of a form; of those given twice, the last.

    Raises:
        ProblemError: 4xx, it is too large, too slow, or no form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise ProblemError(415, f"The console takes forms: send {_FORM}.", kind="unsupported-media-type")
    with services.bodies.hold() as held:
        body = await services.bodies.read(held, request.receive, encoding="identity", largest=SMALL_BODY_BYTES)
        try:
            return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
        except ValueError:
            raise ProblemError(400, "The form cannot be read.", kind="invalid-request") from None


Page = Callable[Concatenate[Visit, P], Awaitable[Response]]


def reading(shown: Callable[Concatenate[Visit, P], Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """A route that shows something."""

    @functools.wraps(shown)
    async def route(request: Request) -> Response:
        return await _answered(request, shown, writes=False)

    return route


def writing(done: Callable[Concatenate[Visit, P], Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """A route that changes something: with the session's secret, and from a page of ours."""

    @functools.wraps(done)
    async def route(request: Request) -> Response:
        return await _answered(request, done, writes=True)

    return route


async def _answered(request: Request, shown: Callable[..., Awaitable[Response]], *, writes: bool) -> Response:
    services: Services = request.app.state.services
    console = console_of(services)
    try:
        visitor = await visitor_of(request, services, console)
        form: dict[str, str] = {}
        if writes:
            require_own_page(request)
            form = await read_form(request, services)
            if visitor.session is not None and not same_secret(form.get("csrf", ""), visitor.csrf):
                raise ProblemError(
                    403, "This form is from before you signed in; load the page again.", kind="foreign-request"
                )
        visit = Visit(request=request, services=services, console=console, visitor=visitor, form=form)
        return await shown(visit, **request.path_params)
    except SignInNeededError as error:
        return _to_sign_in(request, str(error))
    except Exception as error:
        return fault_page(request, error)


def _to_sign_in(request: Request, why: str) -> Response:
    root = root_of(request)
    back = request.url.path.removeprefix(f"{root}/console") if request.method == "GET" else "/"
    if request.url.query and back:
        back += f"?{request.url.query}"
    location = f"{root}/console/sign-in?" + urlencode({**({"why": "expired"} if why else {}), "to": back or "/"})
    if request.headers.get("HX-Request") == "true":
        # A part of a page cannot sign in: the whole page goes.
        return page("empty.html", root=root, status=200, headers={"HX-Redirect": f"{root}/console/sign-in?why=expired"})
    return page("moved.html", root=root, status=303, headers={"Location": location}, location=location)


def fault_page(request: Request, error: Exception) -> Response:
    """The page that says what went wrong, and what to do."""
    title, detail, status = _told(error, request)
    part = request.headers.get("HX-Request") == "true"
    return page(
        "fault_part.html" if part else "fault.html",
        root=root_of(request),
        status=status,
        # htmx puts errors nowhere: a part of a page says what is wrong in its own place.
        headers={"X-Attune-Status": str(status)},
        title=title,
        detail=detail,
        again=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        code=status,
    )


def _told(error: Exception, request: Request) -> tuple[str, str, int]:
    match error:
        case ProblemError():
            return _TITLES.get(error.status, "This did not work"), error.detail, error.status
        case KubernetesError():
            return _cluster_told(error)
        case QueryTooSlowError():
            return (
                "The database took too long",
                "Ask for a shorter time, for one Rule, or for one namespace.",
                _UNAVAILABLE,
            )
    if isinstance(error, OUTAGES):
        log.error("console_storage", path=request.url.path, error=explain(error))
        return (
            "The database does not answer",
            "Events and runs cannot be read now. Try again in a moment.",
            _UNAVAILABLE,
        )
    log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    return "This page failed", "It is a fault of the console; the API's log says which.", 500


_TITLES: Final = {
    400: "This cannot be read",
    403: "You may not see this",
    404: "There is nothing here",
    409: "It has changed meanwhile",
    422: "This cannot be asked",
    503: "Not now",
}


def said_by(error: KubernetesError) -> str:
    """What the Kubernetes API said, without the call that it said it about."""
    return str(error).partition(": ")[2] or str(error)


def _cluster_told(error: KubernetesError) -> tuple[str, str, int]:
    said = said_by(error)
    match error.status:
        case 401:
            return "The cluster does not accept your token", "Sign out, and sign in with a new one.", _FORBIDDEN
        case 403:
            return "You may not do this", f"The cluster says: {said}", _FORBIDDEN
        case 404:
            return "It is not there", "It was deleted, or was never there under this name.", _NOT_FOUND
        case 409 | 422 | 400:
            return "The cluster refused it", f"It says: {said}", error.status
        case _:
            log.error("console_cluster", reason=str(error)[:300])
            return (
                "The Kubernetes API does not answer",
                "Sensors and Rules cannot be read now. Events and runs may be: see their pages. Sensors go on meanwhile.",
                _UNAVAILABLE,
            )


def link(path: str, **query: str) -> str:
    """A path with a query of those parameters that are not empty."""
    given = {name: value for name, value in query.items() if value}
    return f"{quote(path)}?{urlencode(given)}" if given else quote(path)
