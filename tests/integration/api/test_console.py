"""The console before a real kube-apiserver: everybody sees and changes what the cluster's RBAC lets them, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from support.api_process import ApiProcess, report
from support.console_cluster import RULES, Kubernetes, console, kubernetes
from support.eventually import eventually

pytest_plugins = ["support.api_fixtures"]
pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    with kubernetes(tmp_path_factory.mktemp("kubernetes")) as made:
        made.account("reader", verbs=["get", "list", "watch"], within="team-a")
        made.account("lister", verbs=["get", "list"], within="team-a")
        made.account("editor", verbs=["get", "list", "watch", "update", "patch"], within="team-a")
        made.account("viewer", verbs=["get", "list", "watch"], within=None)
        made.account("leaver", verbs=["get", "list", "watch"], within=None)
        for namespace, name in (("team-a", "mine"), ("team-a", "switched"), ("team-b", "theirs")):
            made.rule(namespace, name)
        yield made


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, cluster: Kubernetes) -> Iterator[ApiProcess]:
    with console(tmp_path_factory.mktemp("api"), cluster) as process:
        yield process


@contextmanager
def _visit(api: ApiProcess, token: str) -> Iterator[httpx.Client]:
    own = {"Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=f"{api.url}/console", headers=own, trust_env=False, timeout=60) as browser:
        assert browser.post("/sign-in", data={"token": token}).status_code == 303
        yield browser


def _shows(browser: httpx.Client, *rules: str, without: tuple[str, ...] = (), **query: str) -> str:
    def shown() -> str:
        answer = browser.get("/", params=query)
        assert answer.status_code == 200, answer.text
        assert all(f'id="r-{rule}"' in answer.text for rule in rules)
        return answer.text

    text = eventually(shown, within=60, what=f"the console shows {rules}")
    assert not any(f'id="r-{rule}"' in text for rule in without)
    return text


def _secret(page: str) -> str:
    return page.partition('name="csrf" value="')[2].partition('"')[0]


async def test_a_reader_of_one_namespace_sees_that_one(api: ApiProcess, cluster: Kubernetes) -> None:
    async with api.client() as sensor:
        reports = [
            report(k, rule_namespace=name, rule_uid=f"uid-{name}") for k, name in enumerate(("team-a", "team-b"))
        ]
        assert (await sensor.post("/api/v1/events/batch", json={"events": reports})).status_code == 200
    with _visit(api, cluster.token("viewer")) as viewer, _visit(api, cluster.token("reader")) as reader:
        _shows(viewer, "team-a-mine", "team-b-theirs")
        asked = reader.get("/")
        assert asked.status_code == 403
        assert "You may not list Rules in all namespaces" in asked.text
        assert "theirs" not in asked.text
        _shows(reader, "team-a-mine", without=("team-b-theirs",), namespace="team-a")
        _shows(reader, "team-a-mine")  # the namespace was chosen
        for path in ("/?namespace=team-b", "/?namespace=", "/rules/team-b/theirs", "/rules/team-b/theirs/tail?after=0"):
            answer = reader.get(path)
            assert answer.status_code == 403, path
            assert "core.intervaltimer" not in answer.text, path
        assert reader.get("/events?namespace=team-a").text.count('class="event"') == 1
        assert reader.get("/events?namespace=team-b").status_code == 403
        assert reader.get("/events?namespace=").status_code == 403
        assert reader.get("/runs?namespace=team-b").status_code == 403
        assert reader.get(f"/events/{reports[0]['id']}").status_code == 200
        assert reader.get(f"/events/{reports[1]['id']}").status_code == 404
        with _visit(api, cluster.token("lister")) as lister:
            _shows(lister, "team-a-mine", without=("team-b-theirs",), namespace="team-a")


def test_a_rule_is_switched_by_who_may_change_it_and_in_their_name(api: ApiProcess, cluster: Kubernetes) -> None:
    path, where = "/rules/team-a/switched", RULES.format("team-a") + "/switched"
    with _visit(api, cluster.token("reader")) as reader, _visit(api, cluster.token("editor")) as editor:
        page = reader.get(path).text
        assert "You may not update this Rule" in page
        answer = reader.post(f"{path}/enabled", data={"csrf": _secret(page), "enabled": "false"})
        assert answer.status_code == 403
        assert "cannot patch resource" in answer.text
        assert cluster.request("GET", where)["spec"]["enabled"] is True
        answer = editor.post(f"{path}/enabled", data={"csrf": _secret(editor.get(path).text), "enabled": "false"})
        assert answer.status_code == 303, answer.text
    body = cluster.request("GET", where)
    assert body["spec"]["enabled"] is False
    assert "attune-console" in {entry["manager"] for entry in body["metadata"]["managedFields"]}


def test_the_overview_follows_what_changes_and_says_when_nothing_has(api: ApiProcess, cluster: Kubernetes) -> None:
    part = {"HX-Request": "true"}
    with _visit(api, cluster.token("viewer")) as viewer:

        def quiet() -> str:
            text = _shows(viewer, "team-a-mine")
            found = (
                text.partition('id="live" hx-get="')[2].partition('"')[0].replace("&amp;", "&").removeprefix("/console")
            )
            assert viewer.get(found, headers=part).status_code == 204
            return found

        again = eventually(quiet, within=60, what="nothing changes")
        cluster.rule("team-b", "brand-new")

        def told() -> bool:
            answer = viewer.get(again, headers=part)
            return answer.status_code == 200 and 'id="r-team-b-brand-new"' in answer.text

        eventually(told, within=60, what="the new Rule is shown")
        cluster.request("DELETE", RULES.format("team-b") + "/brand-new")
        eventually(
            lambda: 'id="r-team-b-brand-new"' not in viewer.get("/").text, within=60, what="it is shown no longer"
        )
        gone = viewer.get("/rules/team-b/brand-new")
        assert gone.status_code == 404
        assert "/console/events?namespace=team-b" in gone.text


def test_a_token_that_is_withdrawn_ends_the_session(api: ApiProcess, cluster: Kubernetes) -> None:
    with _visit(api, cluster.token("leaver")) as leaver:
        _shows(leaver, "team-a-mine")
        cluster.request("DELETE", "/api/v1/namespaces/team-a/serviceaccounts/leaver")

        def out() -> bool:
            answer = leaver.get("/")
            return answer.status_code == 303 and "why=expired" in answer.headers["location"]

        eventually(out, within=60, what="the session has ended")
        assert "no longer accepted" in leaver.get("/sign-in?why=expired").text


def test_behind_a_proxy_each_request_brings_its_token(cluster: Kubernetes, tmp_path: Any) -> None:
    reader = {"Authorization": f"Bearer {cluster.token('reader')}"}
    with console(tmp_path / "proxied", cluster, console_proxy="true") as api:
        with httpx.Client(base_url=f"{api.url}/console", headers=reader, trust_env=False, timeout=60) as browser:
            _shows(browser, "team-a-mine", without=("team-b-theirs",), namespace="team-a")
            assert browser.get("/rules/team-b/theirs").status_code == 403
            forged = {"Impersonate-User": "system:admin", "X-Forwarded-User": "system:admin", "X-Remote-User": "root"}
            assert browser.get("/rules/team-b/theirs", headers=forged).status_code == 403
            for headers in ({}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
                answer = browser.post("/rules/team-a/mine/enabled", data={"enabled": "false"}, headers=headers)
                assert (answer.status_code, "another site" in answer.text) == (403, True)
        assert httpx.get(f"{api.url}/console/", trust_env=False).status_code == 303
    with console(tmp_path / "plain", cluster) as api:
        assert httpx.get(f"{api.url}/console/", headers=reader, trust_env=False).status_code == 303


def test_while_the_cluster_does_not_answer_a_page_says_so(api: ApiProcess, cluster: Kubernetes) -> None:
    with _visit(api, cluster.token("viewer")) as viewer:
        _shows(viewer, "team-a-mine")
        cluster.server.stop()
        try:

            def told() -> bool:
                answers = [viewer.get("/"), viewer.get("/rules/team-a/mine")]
                assert all("Traceback" not in answer.text and answer.status_code != 500 for answer in answers)
                return all(answer.status_code == 503 and "does not answer" in answer.text for answer in answers)

            eventually(told, within=90, what="the pages say that the cluster does not answer")
        finally:
            cluster.server.start()
        eventually(lambda: viewer.get("/rules/team-a/mine").status_code == 200, within=120, what="it works again")
        _shows(viewer, "team-a-mine", "team-b-theirs")
