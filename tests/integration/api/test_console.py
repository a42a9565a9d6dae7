"""The console before a real kube-apiserver: everybody sees and changes what the cluster's RBAC lets them, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from support.api_process import ApiProcess, report
from support.definitions import definitions_served
from support.eventually import eventually

from attune_cluster.apiserver import ApiServer
from attune_contract.names import API_VERSION

pytest_plugins = ["support.api_fixtures"]
pytestmark = pytest.mark.apiserver

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_RULES = f"/apis/{API_VERSION}/namespaces/{{}}/rules"


class Kubernetes:
    """What an administrator does."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.request = server.api().request

    def account(self, name: str, *, verbs: list[str], within: str | None) -> None:
        """A ServiceAccount team-a/<name> with rights for Rules in a namespace, or in all."""
        self.request("POST", "/api/v1/namespaces/team-a/serviceaccounts", {"metadata": {"name": name}})
        kind, base = ("ClusterRole", _RBAC) if within is None else ("Role", f"{_RBAC}/namespaces/{within}")
        rules = [{"apiGroups": ["attune.dev"], "resources": ["rules", "sensors"], "verbs": verbs}]
        self.request("POST", f"{base}/{kind.lower()}s", {"metadata": {"name": name}, "rules": rules})
        self.bind(name, kind=kind, subject=("team-a", name), base=base)

    def bind(self, role: str, *, kind: str, subject: tuple[str, str], base: str = _RBAC) -> None:
        body = {
            "metadata": {"name": f"{role.replace(':', '-')}-{subject[1]}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"kind": "ServiceAccount", "namespace": subject[0], "name": subject[1]}],
        }
        self.request("POST", f"{base}/{'clusterrolebindings' if base == _RBAC else 'rolebindings'}", body)

    def token(self, name: str, *, namespace: str = "team-a") -> str:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        return str(self.request("POST", path, body)["status"]["token"])

    def rule(self, namespace: str, name: str) -> dict[str, Any]:
        body = {
            "apiVersion": API_VERSION,
            "kind": "Rule",
            "metadata": {"name": name},
            "spec": {"trigger": {"type": "core.intervaltimer", "parameters": {"interval": 5}}},
        }
        made: dict[str, Any] = self.request("POST", _RULES.format(namespace), body)
        return made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    with ApiServer(tmp_path_factory.mktemp("kubernetes")) as server:
        definitions_served(server.api())
        kubernetes = Kubernetes(server)
        for namespace in ("attune-system", "team-a", "team-b"):
            kubernetes.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        kubernetes.request(
            "POST", "/api/v1/namespaces/attune-system/serviceaccounts", {"metadata": {"name": "attune-api"}}
        )
        kubernetes.bind("system:auth-delegator", kind="ClusterRole", subject=("attune-system", "attune-api"))
        kubernetes.account("reader", verbs=["get", "list", "watch"], within="team-a")
        kubernetes.account("lister", verbs=["get", "list"], within="team-a")
        kubernetes.account("editor", verbs=["get", "list", "watch", "update", "patch"], within="team-a")
        kubernetes.account("viewer", verbs=["get", "list", "watch"], within=None)
        kubernetes.account("leaver", verbs=["get", "list", "watch"], within=None)
        for namespace, name in (("team-a", "mine"), ("team-a", "switched"), ("team-b", "theirs")):
            kubernetes.rule(namespace, name)
        yield kubernetes


@contextmanager
def _console(directory: Any, cluster: Kubernetes, **settings: str) -> Iterator[ApiProcess]:
    directory.mkdir(exist_ok=True)
    token_file = directory / "service-account-token"
    token_file.write_text(cluster.token("attune-api", namespace="attune-system"))
    with ApiProcess(
        directory,
        kubernetes_auth="on",
        kubernetes_url=cluster.server.server,
        kubernetes_token_file=str(token_file),
        kubernetes_ca_file=str(cluster.server.authority),
        console="true",
        **settings,
    ) as process:
        yield process


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, cluster: Kubernetes) -> Iterator[ApiProcess]:
    with _console(tmp_path_factory.mktemp("api"), cluster) as process:
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
    path, where = "/rules/team-a/switched", _RULES.format("team-a") + "/switched"
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
        cluster.request("DELETE", _RULES.format("team-b") + "/brand-new")
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
    with _console(tmp_path / "proxied", cluster, console_proxy="true") as api:
        with httpx.Client(base_url=f"{api.url}/console", headers=reader, trust_env=False, timeout=60) as browser:
            _shows(browser, "team-a-mine", without=("team-b-theirs",), namespace="team-a")
            assert browser.get("/rules/team-b/theirs").status_code == 403
            forged = {"Impersonate-User": "system:admin", "X-Forwarded-User": "system:admin", "X-Remote-User": "root"}
            assert browser.get("/rules/team-b/theirs", headers=forged).status_code == 403
            for headers in ({}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
                answer = browser.post("/rules/team-a/mine/enabled", data={"enabled": "false"}, headers=headers)
                assert (answer.status_code, "another site" in answer.text) == (403, True)
        assert httpx.get(f"{api.url}/console/", trust_env=False).status_code == 303
    with _console(tmp_path / "plain", cluster) as api:
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
