"""Who is signed in to the console: sessions and one-time codes, in memory, bounded in number and age.

A session holds the caller's own token, so that nothing is asked with other rights than the caller's. It never leaves this
process: the browser has a random cookie instead. A restart ends all sessions, and each replica has its own (docs/console.md).
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

#: Sessions at once; the one that was used longest ago makes room for a new one.
MOST_SESSIONS: Final = 256
#: Seconds after which a session ends in any case, and after which one that is not used does.
LONGEST: Final = 12 * 3600.0
IDLE: Final = 2 * 3600.0
#: Seconds for which a one-time code is good, and how many there are at once.
CODE_LIFE: Final = 30.0
MOST_CODES: Final = 32


@dataclass(slots=True, kw_only=True)
class Session:
    """Somebody who is signed in.

    Attributes:
        key: what the cookie is looked up by: a digest, so that no cookie can be read out of this memory.
        token: the caller's own.
        login: who that is, for people.
        csrf: what a form must bring along.
        namespace: the namespace that was chosen last; empty for all.
        began: when it began (monotonic seconds).
        used: when it was last used.
    """

    key: bytes = field(repr=False)
    token: str = field(repr=False)
    login: str
    csrf: str = field(repr=False)
    began: float
    used: float
    namespace: str = ""


class Sessions:
    """The sessions, by their cookies.

    Args:
        clock: as ``time.monotonic``.
        random: makes what nobody can guess, as text for a URL.
        most: sessions at once.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        random: Callable[[], str] = lambda: secrets.token_urlsafe(32),
        most: int = MOST_SESSIONS,
    ) -> None:
        self._clock = clock
        self._random = random
        self._most = most
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._codes: OrderedDict[bytes, tuple[float, str, Session]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, *, token: str, login: str) -> tuple[str, Session]:
        """Begin a session for a token that was checked; returns its cookie, and the session.

        Args:
            token: the caller's.
            login: who that is.
        """
        cookie, session = self._made(token=token, login=login)
        self._keep(session)
        return cookie, session

    def find(self, cookie: str | None) -> Session | None:
        """The session of a cookie, unless there is none or it has ended. It counts as used now."""
        if not cookie:
            return None
        session = self._sessions.get(_digest(cookie))
        if session is None:
            return None
        now = self._clock()
        if now - session.began >= LONGEST or now - session.used >= IDLE:
            self.end(session)
            return None
        session.used = now
        self._sessions.move_to_end(session.key)
        return session

    def end(self, session: Session) -> None:
        """Forget a session, and so its token."""
        self._sessions.pop(session.key, None)

    def issue(self, *, token: str, login: str) -> str:
        """A code that begins a session once, within :data:`CODE_LIFE` seconds.

        Args:
            token: the caller's, which was checked.
            login: who that is.
        """
        cookie, session = self._made(token=token, login=login)
        code = self._random()
        self._codes[_digest(code)] = (self._clock() + CODE_LIFE, cookie, session)
        while len(self._codes) > MOST_CODES:
            self._codes.popitem(last=False)
        return code

    def redeem(self, code: str) -> tuple[str, Session] | None:
        """Begin the session of a code; None when the code was used, is too old, or never was."""
        found = self._codes.pop(_digest(code), None)
        if found is None or found[0] <= self._clock():
            return None
        _, cookie, session = found
        session.began = session.used = self._clock()
        self._keep(session)
        return cookie, session

    def expire(self) -> int:
        """Forget what has ended; returns how many sessions and codes there are."""
        now = self._clock()
        for session in [
            each for each in self._sessions.values() if now - each.began >= LONGEST or now - each.used >= IDLE
        ]:
            self.end(session)
        for key in [key for key, (ends, _, _) in self._codes.items() if ends <= now]:
            del self._codes[key]
        return len(self._sessions) + len(self._codes)

    def _made(self, *, token: str, login: str) -> tuple[str, Session]:
        cookie, now = self._random(), self._clock()
        return cookie, Session(key=_digest(cookie), token=token, login=login, csrf=self._random(), began=now, used=now)

    def _keep(self, session: Session) -> None:
        self._sessions[session.key] = session
        while len(self._sessions) > self._most:
            self._sessions.popitem(last=False)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def same_secret(given: str, wanted: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())


def written_here(*, site: str | None, origin: str | None, hosts: frozenset[str]) -> bool:
    """Whether a request that changes something was made by a page of ours, and not by another site's.

    Every browser that sends cookies with ``SameSite`` says where a request comes from, in ``Sec-Fetch-Site`` (where the page
    came by TLS, or from this machine) or in ``Origin`` (RFC 6454 §7).

    Args:
        site: ``Sec-Fetch-Site``.
        origin: ``Origin``.
        hosts: what the request says that our own host is.
    """
    if site is not None:
        return site == "same-origin"
    if not origin:
        return False
    return origin.partition("://")[2].lower() in hosts
