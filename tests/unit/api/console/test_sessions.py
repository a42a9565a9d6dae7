"""Who is signed in to the console: what a cookie, a code and a form are good for, and how long."""

import itertools

import pytest
from starlette.requests import Request

from attune_api.console.pages.sign_in import way_back
from attune_api.console.session import CODE_LIFE, IDLE, LONGEST, MOST_CODES, Sessions, same_secret, written_here
from attune_api.console.visit import is_secure


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def sessions(clock: Clock, *, most: int = 3) -> Sessions:
    numbers = itertools.count()
    return Sessions(clock=clock, random=lambda: f"random-{next(numbers)}", most=most)


def test_a_cookie_finds_its_session_and_nothing_else_does() -> None:
    kept = sessions(Clock())
    cookie, session = kept.open(token="a-token", login="user:ann")
    assert kept.find(cookie) is session
    for other in (None, "", "random-99", cookie + "x", session.csrf, "a-token"):
        assert kept.find(other) is None
    kept.end(session)
    assert kept.find(cookie) is None


def test_neither_token_nor_cookie_nor_secret_is_in_a_session_as_it_may_be_logged() -> None:
    cookie, session = sessions(Clock()).open(token="a-token", login="user:ann")
    for secret in (cookie, "a-token", session.csrf):
        assert secret not in repr(session)


@pytest.mark.parametrize(("step", "most"), [(IDLE - 1, LONGEST), (IDLE, IDLE)])
def test_a_session_ends_by_its_age_and_without_use(step: float, most: float) -> None:
    clock = Clock()
    kept = sessions(clock)
    cookie, _ = kept.open(token="t", login="user:ann")
    began = clock.now
    while kept.find(cookie) is not None:
        assert clock.now - began < most
        clock.now += step
    assert clock.now - began >= most
    assert len(kept) == 0


def test_there_are_so_many_sessions_and_the_one_unused_for_longest_goes() -> None:
    kept = sessions(Clock(), most=2)
    first, _ = kept.open(token="1", login="user:1")
    second, _ = kept.open(token="2", login="user:2")
    assert kept.find(first) is not None
    third, _ = kept.open(token="3", login="user:3")
    assert kept.find(second) is None
    assert kept.find(first) is not None
    assert kept.find(third) is not None


def test_a_code_is_good_once() -> None:
    kept = sessions(Clock())
    code = kept.issue(token="t", login="user:ann")
    assert len(kept) == 0
    found = kept.redeem(code)
    assert found is not None
    cookie, session = found
    assert session.token == "t"
    assert kept.find(cookie) is session
    assert kept.redeem(code) is None
    assert kept.redeem("random-99") is None


def test_a_code_is_good_for_a_short_time() -> None:
    clock = Clock()
    kept = sessions(clock)
    early, late = (kept.issue(token="t", login="user:ann") for _ in range(2))
    clock.now += CODE_LIFE - 0.1
    assert kept.redeem(early) is not None
    clock.now += 0.1
    assert kept.redeem(late) is None


def test_codes_are_bounded_and_what_has_ended_is_forgotten() -> None:
    clock = Clock()
    kept = sessions(clock)
    codes = [kept.issue(token="t", login="user:ann") for _ in range(MOST_CODES + 1)]
    assert kept.redeem(codes[0]) is None
    assert kept.expire() == MOST_CODES
    clock.now += CODE_LIFE
    assert kept.expire() == 0
    kept.open(token="t", login="user:ann")
    assert kept.expire() == 1
    clock.now += IDLE
    assert kept.expire() == 0


def test_secrets_are_compared_whole() -> None:
    assert same_secret("abc", "abc")
    for other in ("", "ab", "abcd", "\udcff"):
        assert not same_secret(other, "abc")


@pytest.mark.parametrize(
    ("site", "origin", "own"),
    [
        ("same-origin", "https://attune.example", True),
        ("same-origin", None, True),
        (None, "https://attune.example", True),
        (None, "https://ATTUNE.example", True),
        ("same-site", "https://attune.example", False),
        ("cross-site", "https://evil.example", False),
        ("none", None, False),
        (None, "https://evil.example", False),
        (None, "null", False),
        (None, "https://attune.example.evil.example", False),
        (None, None, False),
        (None, "", False),
    ],
)
def test_only_a_page_of_ours_may_write(site: str | None, origin: str | None, own: bool) -> None:
    assert written_here(site=site, origin=origin, hosts=frozenset({"attune.example"})) is own


@pytest.mark.parametrize(
    ("scheme", "headers", "secure"),
    [
        ("http", {}, False),
        ("https", {}, True),
        ("http", {"X-Forwarded-Proto": "https"}, True),
        ("http", {"Origin": "https://attune.example"}, True),
        # As with `attune ui`, where TLS begins behind the browser: it would not take a cookie that is for TLS only.
        ("https", {"Origin": "http://127.0.0.1:5000"}, False),
        ("https", {"Origin": "null"}, True),
    ],
)
def test_a_cookie_is_for_tls_only_where_the_browser_came_by_tls(
    scheme: str, headers: dict[str, str], secure: bool
) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in {"Host": "attune.example", **headers}.items()]
    scope = {"type": "http", "method": "POST", "scheme": scheme, "path": "/console/sign-in", "query_string": b""}
    assert is_secure(Request({**scope, "headers": raw})) is secure


@pytest.mark.parametrize(
    ("path", "goes"),
    [
        ("/", "/"),
        ("/rules/default/echo?said=x", "/rules/default/echo?said=x"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/a\r\nSet-Cookie: x", "/"),
        ("/sign-out", "/"),
        ("", "/"),
    ],
)
def test_the_way_back_stays_in_the_console(path: str, goes: str) -> None:
    assert way_back(path) == goes
