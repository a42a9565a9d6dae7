"""Signing in, with a token or a one-time code, and out."""

import re
from typing import Final

import structlog
from fastapi import Request
from fastapi.responses import Response

from attune_api.console.answers import HEADERS, page, redirect
from attune_api.console.session import CODE_LIFE
from attune_api.console.visit import (
    COOKIE,
    SignInNeededError,
    Visit,
    console_of,
    fault_page,
    is_secure,
    read_form,
    require_own_page,
    root_of,
    visitor_of,
)
from attune_api.dependencies import authorization_of
from attune_api.identity.callers import Caller, SensorCaller
from attune_api.services import Services
from attune_api.web.answers import json_answer
from attune_api.web.problems import ProblemError

log = structlog.get_logger(__name__)

_WHY: Final = {
    "expired": "Your session has ended, or your token is no longer accepted. Sign in again.",
    "out": "You are signed out.",
}
_WAY_BACK: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")
_SENSOR: Final = "This is a sensor's token, which is for its events alone. Sign in with your own."


def way_back(path: str) -> str:
    """Where to go on after signing in: a path of the console, never another site."""
    return path if _WAY_BACK.fullmatch(path) and not path.startswith(("//", "/sign-")) else "/"


async def show(request: Request) -> Response:
    """``GET /console/sign-in``: paste a token, or have the code in the URL's fragment exchanged."""
    services: Services = request.app.state.services
    console = console_of(services)
    query = request.query_params
    try:
        await visitor_of(request, services, console)
    except SignInNeededError as error:
        why = _WHY.get(query.get("why", ""), "") or str(error)
    except Exception as error:
        return fault_page(request, error)
    else:
        return redirect(way_back(query.get("to", "/")), root=root_of(request))
    return _page(request, why=why)


def _page(request: Request, *, why: str = "", wrong: str = "", status: int = 200) -> Response:
    services: Services = request.app.state.services
    return page(
        "sign_in.html",
        root=root_of(request),
        status=status,
        why=why,
        wrong=wrong,
        to=way_back(request.query_params.get("to", "/")),
        local=services.settings.kubernetes_server() is None,
    )


async def enter(request: Request) -> Response:
    """``POST /console/sign-in``: with ``token`` or ``code``."""
    services: Services = request.app.state.services
    console = console_of(services)
    try:
        require_own_page(request)
        form = await read_form(request, services)
        if code := form.get("code"):
            found = console.sessions.redeem(code)
            if found is None:
                wrong = "This link was used already, or is older than half a minute. Run `attune ui` again."
                return _page(request, wrong=wrong, status=403)
        else:
            token = form.get("token", "").strip()
            if not token:
                return _page(request, wrong="Paste a token.", status=422)
            try:
                caller = _person(await services.access.caller(f"Bearer {token}"))
            except ProblemError as problem:
                if problem.status not in (401, 403):
                    raise
                return _page(request, wrong=f"{problem.detail} Nobody is signed in.", status=403)
            found = console.sessions.open(token=token, login=caller.login)
    except Exception as error:
        return fault_page(request, error)
    cookie, session = found
    console.used()
    log.info("console_signed_in", login=session.login, by="code" if code else "token")
    answer = redirect(way_back(form.get("to", "/")), root=root_of(request))
    answer.set_cookie(
        COOKIE, cookie, path=f"{root_of(request)}/console", httponly=True, samesite="strict", secure=is_secure(request)
    )
    return answer


async def give_code(request: Request) -> Response:
    """``POST /console/codes``: a one-time code for the token in ``Authorization``, for ``attune ui``."""
    services: Services = request.app.state.services
    console = console_of(services)
    authorization = authorization_of(request)
    caller = _person(await services.access.caller(authorization))
    token = (authorization or "").partition(" ")[2].strip()
    code = console.sessions.issue(token=token, login=caller.login)
    console.used()
    return json_answer(
        {"data": {"code": code, "expires_in": int(CODE_LIFE), "login": caller.login}}, headers=dict(HEADERS)
    )


def _person(caller: Caller) -> Caller:
    if isinstance(caller, SensorCaller):
        raise ProblemError(403, _SENSOR, kind="forbidden")
    return caller


async def leave(visit: Visit) -> Response:
    """``POST /console/sign-out``."""
    if visit.visitor.session is not None:
        visit.console.sessions.end(visit.visitor.session)
        log.info("console_signed_out", login=visit.visitor.session.login)
    answer = redirect("/sign-in?why=out", root=root_of(visit.request))
    answer.delete_cookie(COOKIE, path=f"{root_of(visit.request)}/console")
    return answer
