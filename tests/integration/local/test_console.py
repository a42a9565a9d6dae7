"""The console of a real ``attune up``, over HTTP: signing in and out, what pages show, and what other sites cannot do."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.attune_up import ATTUNE, AttuneUp, attune_up
from support.eventually import eventually

from attune_contract.local import read_endpoints

pytestmark = [pytest.mark.nats, pytest.mark.timeout(600)]

PACK = Path(__file__).parents[3] / "packs" / "core"
RULES = """apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {name: steady, namespace: team-a}
spec:
  trigger: {type: core.intervaltimer, parameters: {interval: 500, unit: milliseconds}}
---
apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {name: astray, namespace: team-b}
spec:
  trigger: {type: acme.nothing}
"""
#: What no answer of the console may lack.
POLICY = "default-src 'none'"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttuneUp]:
    folder = tmp_path_factory.mktemp("console")
    shutil.copy(PACK / "core.timer.yaml", folder)
    (folder / "rules.yaml").write_text(RULES)
    with attune_up(folder) as running:
        yield running


@pytest.fixture(scope="module")
def url(up: AttuneUp) -> str:
    endpoints = read_endpoints(up.data_dir)
    assert endpoints is not None
    return endpoints.api.url


def admin_token(up: AttuneUp) -> str:
    return (up.data_dir / "admin.token").read_text().strip()


@pytest.fixture
def visitor(up: AttuneUp, url: str) -> Iterator[httpx.Client]:
    """A browser that signed in with a pasted token."""
    own = {"Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=url, headers=own, trust_env=False, timeout=60) as client:
        answer = client.post("/console/sign-in", data={"token": admin_token(up), "to": "/runs"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/runs")
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/console"} <= {part.strip() for part in cookie.split(";")}
        assert admin_token(up) not in cookie
        yield client


def secret_of(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def text_of(visitor: httpx.Client, path: str, **query: str) -> str:
    answer = visitor.get(f"/console{path}", params=query)
    assert answer.status_code == 200, answer.text
    assert POLICY in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    return answer.text


def test_attune_ui_prints_a_link_that_signs_in_once(up: AttuneUp, url: str) -> None:
    done = subprocess.run([str(ATTUNE), "ui", "--no-open"], cwd=up.folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    link = done.stdout.strip()
    assert link.startswith(f"{url}/console/sign-in#code=")
    assert admin_token(up) not in done.stdout + done.stderr
    with httpx.Client(base_url=url, headers={"Origin": url}, trust_env=False, timeout=60) as browser:
        for expected in (303, 403):
            answer = browser.post("/console/sign-in", data={"code": link.partition("=")[2]})
            assert answer.status_code == expected, answer.text
        assert browser.get("/console/").status_code == 200


def test_the_overview_has_what_is_wrong_first_with_what_to_do(visitor: httpx.Client) -> None:
    def both() -> str:
        page = text_of(visitor, "/")
        assert ">Active<" in page.replace("\n", "").replace("</svg>", ">")
        assert "Not accepted" in page
        return page

    page = eventually(both, within=60, what="the console shows both Rules as they are")
    assert page.index('id="r-team-b-astray"') < page.index('id="r-team-a-steady"')
    assert "Apply a Sensor that declares this trigger type" in page
    assert 'id="r-team-a-steady"' not in text_of(visitor, "/", state="bad")
    assert 'id="r-team-b-astray"' not in text_of(visitor, "/", q="steady TEAM-A")
    narrowed = text_of(visitor, "/", namespace="team-a")
    assert 'id="r-team-b-astray"' not in narrowed
    assert 'id="r-team-b-astray"' in text_of(visitor, "/")


def test_a_rule_is_switched_off_and_on_with_the_session_s_secret_alone(up: AttuneUp, visitor: httpx.Client) -> None:
    page = text_of(visitor, "/rules/team-a/steady")
    form = {"csrf": secret_of(page), "enabled": "false"}
    where = "/console/rules/team-a/steady/enabled"

    def enabled() -> bool:
        return bool(up.kube.get("rule", "steady", "team-a")["spec"].get("enabled", True))

    assert visitor.post(where, data={"enabled": "false"}).status_code == 403
    assert visitor.post(where, data={**form, "csrf": "guessed"}).status_code == 403
    assert visitor.post(where, data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert visitor.post(where, json=form).status_code == 415
    assert enabled()
    assert visitor.post(where, data=form).status_code == 303
    assert not enabled()
    eventually(lambda: "The rule is disabled" in text_of(visitor, "/rules/team-a/steady"), within=60, what="it says so")
    assert visitor.post(where, data={**form, "enabled": "true"}).status_code == 303
    assert enabled()


def test_parts_of_a_rule_s_page_follow_what_happens(visitor: httpx.Client) -> None:
    def with_events() -> str:
        page = text_of(visitor, "/rules/team-a/steady")
        assert "scheduled_at=" in page
        return page

    page = eventually(with_events, within=60, what="the page has events")
    tail = re.search(r'hx-get="/console(/rules/team-a/steady/tail)\?uid=([-0-9a-f]+)&amp;after=(\d+)', page)
    assert tail is not None

    def newer() -> bool:
        query = {"uid": tail[2], "after": tail[3]}
        answer = visitor.get(f"/console{tail[1]}", params=query, headers={"HX-Request": "true"})
        assert answer.status_code in (200, 204)
        return "scheduled_at=" in answer.text and f"after={tail[3]}&" not in answer.text

    eventually(newer, within=60, what="newer events come")
    assert "<rect" in text_of(visitor, "/rules/team-a/steady/chart", uid=tail[2], span="1h")
    assert "created" in text_of(visitor, "/rules/team-a/steady/history")
    event = re.search(r'href="/console(/events/[-0-9a-f]{36})\?', page)
    assert event is not None
    assert "team-a/steady" in text_of(visitor, event[1])


def test_what_is_not_there_or_cannot_be_meant_has_a_page(visitor: httpx.Client) -> None:
    for path, status, said in (
        ("/rules/team-a/never-was", 404, "There is no Rule never-was"),
        ("/no-such-page", 404, "no such page"),
        ("/events?after=yesterday", 422, "is no time"),
        ("/events?cursor=x", 400, "cursor"),
        ("/runs?state=Lost", 422, "filter"),
        ("/runs/00000000-0000-0000-0000-000000000000", 404, "no run"),
        ("/events/zero", 404, "no event"),
        ("/rules/team-a/steady/chart?span=2h", 422, "no span"),
    ):
        answer = visitor.get(f"/console{path}")
        assert answer.status_code == status, (path, answer.text)
        assert said in answer.text, path
        assert answer.headers["content-type"].startswith("text/html")
        assert POLICY in answer.headers["content-security-policy"]


def test_signing_out_ends_the_session(up: AttuneUp, url: str, visitor: httpx.Client) -> None:
    form = {"csrf": secret_of(text_of(visitor, "/"))}
    cookies = dict(visitor.cookies)
    assert visitor.post("/console/sign-out", data={"csrf": "guessed"}).status_code == 403
    assert visitor.post("/console/sign-out", data=form).status_code == 303
    assert "attune_console" not in visitor.cookies
    answer = httpx.get(f"{url}/console/events", cookies=cookies, trust_env=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in?to=%2Fevents")
    for path in ("/console/", "/console/rules/team-a/steady/tail", "/console/runs"):
        assert httpx.get(f"{url}{path}", trust_env=False).status_code == 303
    part = httpx.get(f"{url}/console/", headers={"HX-Request": "true"}, trust_env=False)
    assert part.headers["hx-redirect"] == "/console/sign-in?why=expired"
    assert admin_token(up) not in (up.data_dir / "logs" / "api.log").read_text()


def test_nobody_is_signed_in_by_what_is_no_token_of_a_person(up: AttuneUp, url: str) -> None:
    sensor = next(iter(up.data_dir.glob("pods/**/token"))).read_text().strip()
    for token in ("", "guessed", sensor):
        answer = httpx.post(
            f"{url}/console/sign-in", data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"}, trust_env=False
        )
        assert answer.status_code in (403, 422)
        assert "set-cookie" not in answer.headers
        assert not token or token not in answer.text
    foreign = httpx.post(
        f"{url}/console/sign-in",
        data={"token": admin_token(up)},
        headers={"Origin": "https://evil.example"},
        trust_env=False,
    )
    assert foreign.status_code == 403
    assert httpx.post(f"{url}/console/codes", trust_env=False).status_code == 401
    assert (
        httpx.get(
            f"{url}/console/", headers={"Authorization": f"Bearer {admin_token(up)}"}, trust_env=False
        ).status_code
        == 303
    )


def test_assets_are_named_by_their_content_and_kept(url: str) -> None:
    page = httpx.get(f"{url}/console/sign-in", trust_env=False).text
    names = set(re.findall(r'"(/console/assets/[^"]+)"', page))
    assert len(names) == 4
    for name in names:
        answer = httpx.get(f"{url}{name}", trust_env=False)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert httpx.get(f"{url}/console/assets/console.css", trust_env=False).status_code == 404
