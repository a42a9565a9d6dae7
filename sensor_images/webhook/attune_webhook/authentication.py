"""Checks who sends: each kind of ``auth`` on a path once, by the head of a request where that suffices, else with its body."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from attune_webhook.auth import Auth
from attune_webhook.http.answers import RefusalError
from attune_webhook.http.request import Request
from attune_webhook.key_ring import KeyRing
from attune_webhook.routes import Route
from attune_webhook.schemes.model import Basic
from attune_webhook.schemes.signatures import Checker, Refused
from attune_webhook.sns import SnsMessages

_DETAIL: Final = "The request is not signed as this path asks for, or too old."


class Authenticator:
    """Judges requests.

    Args:
        keys: the keys of the rules' secrets.
        sns: judges messages of Amazon SNS.
    """

    def __init__(self, *, keys: KeyRing, sns: SnsMessages) -> None:
        self._keys = keys
        self._sns = sns

    def keys(self, auth: Auth) -> list[bytes]:
        """All keys that are valid now."""
        return [key for keys in self._keys.keys(auth) for key in keys]

    def verify_tokens(self, auth: Auth) -> list[bytes]:
        """Meta: what ``hub.verify_token`` must be."""
        return self._keys.verify_tokens(auth)

    def by_head(self, request: Request, routes: Sequence[Route]) -> tuple[Route, ...]:
        """The rules whose sender it may be, by the head alone.

        Raises:
            RefusalError: there are none, or none of their secrets can be used now.
        """
        usable = [route for route in routes if self._usable(route.hook.auth)]
        if not usable:
            raise RefusalError.unavailable(
                "no_secret", "The secret for this path is missing or cannot be used; try again later.", close=True
            )
        judged = _Judged()
        for route in usable:
            auth = route.hook.auth
            if auth.open or auth.needs_body:
                judged.note(route, None)
            else:
                # Strangers need not send their bodies.
                judged.note(route, judged.known(auth) or self._check(request, auth, now=0.0))
        return judged.passed(close=True)

    async def with_body(self, request: Request, routes: Sequence[Route], *, now: float) -> tuple[Route, ...]:
        """The rules whose sender it is.

        Args:
            request: the request with its body.
            routes: what :meth:`by_head` returned.
            now: Unix time in seconds.

        Raises:
            RefusalError: there are none.
        """
        judged = _Judged()
        for route in routes:
            auth = route.hook.auth
            if auth.open or not auth.needs_body:
                judged.note(route, None)
            elif auth.by_certificate:
                judged.note(route, await self._sns.check(request.read.data, auth.topics))
            else:
                judged.note(route, judged.known(auth) or self._check(request, auth, now=now))
        return judged.passed(close=False)

    def _usable(self, auth: Auth) -> bool:
        return auth.open or auth.by_certificate or any(self._keys.keys(auth))

    def _check(self, request: Request, auth: Auth, *, now: float) -> Refused | None:
        """Whether any check of any variant lets the request in; else the refusal that says most."""
        url = _url(request, auth) if auth.preset.url_signed else ""
        found: Refused | None = None
        for checkers, keys in zip(auth.checkers, self._keys.keys(auth), strict=True):
            if not keys:
                continue
            for checker in checkers:
                refused = _run(checker, request, keys, now=now, tolerance=auth.tolerance, url=url)
                if refused is None:
                    return None
                if found is None or found.kind == "unsigned":
                    found = refused
        return found or Refused("unsigned", "there is no secret to check with")


def _run(
    checker: Checker, request: Request, keys: Sequence[bytes], *, now: float, tolerance: int, url: str
) -> Refused | None:
    return checker(request, keys, now=now, tolerance=tolerance, url=url)


def _url(request: Request, auth: Auth) -> str:
    """The URL as the sender knows it."""
    base = auth.public_url
    if base is None:
        base = f"https://{request.headers.get('host', '')}"
    return base + request.target


class _Judged:
    """The rules of a path as their checks come in."""

    def __init__(self) -> None:
        self._passed: list[Route] = []
        self._refused: list[tuple[Auth, Refused]] = []

    def known(self, auth: Auth) -> Refused | None:
        """What was found for an equal ``auth`` already, where it refused."""
        return next((refused for other, refused in self._refused if other == auth), None)

    def note(self, route: Route, refused: Refused | None) -> None:
        """Take down what was found for a rule."""
        if refused is None:
            self._passed.append(route)
        else:
            self._refused.append((route.hook.auth, refused))

    def passed(self, *, close: bool) -> tuple[Route, ...]:
        """The rules that may have the request.

        Raises:
            RefusalError: there are none.
        """
        if self._passed:
            return tuple(self._passed)
        auth, refused = next((each for each in self._refused if each[1].kind != "unsigned"), self._refused[0])
        challenge = _challenge(auth)
        raise RefusalError(
            HTTPStatus.UNAUTHORIZED,
            refused.kind,
            _DETAIL,
            reason=refused.sentence,
            headers={"WWW-Authenticate": challenge} if challenge else None,
            close=close,
        )


def _challenge(auth: Auth) -> str | None:
    """How HTTP says what is missing (RFC 9110, section 11.6.1), where it has a word for it."""
    if auth.preset.name == "bearer":
        return "Bearer"
    if any(isinstance(check, Basic) for variant in auth.preset.variants for check in variant.checks):
        return 'Basic realm="attune"'
    return None
