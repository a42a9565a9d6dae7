"""Readers and minters by the cluster's own word: TokenReview and SubjectAccessReview of a real kube-apiserver."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from support.api_process import ApiProcess, report
from support.eventually import until

from attune_api.settings import Settings
from attune_api.storage.opening import open_database
from attune_cluster.apiserver import ApiServer

pytest_plugins = ["support.api_fixtures"]
pytestmark = pytest.mark.apiserver

_RBAC = "/apis/rbac.authorization.k8s.io/v1"


class Kubernetes:
    """What an administrator does."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self._request = server.api().request

    def namespace(self, name: str) -> None:
        self._request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def account(self, namespace: str, name: str) -> None:
        self._request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})

    def token(self, namespace: str, name: str) -> str:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        answer = self._request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", body)
        return str(answer["status"]["token"])

    def allow(self, name: str, *, verbs: list[str], resource: str, within: str | None) -> None:
        """Give the account team-a/<name> a right, in one namespace or in all."""
        role = f"{name}-{resource.replace('/', '-')}"
        rules = [{"apiGroups": ["attune.dev"], "resources": [resource], "verbs": verbs}]
        kind = "ClusterRole" if within is None else "Role"
        base = _RBAC if within is None else f"{_RBAC}/namespaces/{within}"
        self._request("POST", f"{base}/{kind.lower()}s", {"metadata": {"name": role}, "rules": rules})
        self.bind(role, kind=kind, subject=("team-a", name), within=within)

    def bind(self, role: str, *, kind: str, subject: tuple[str, str], within: str | None) -> None:
        base = _RBAC if within is None else f"{_RBAC}/namespaces/{within}"
        bindings = "clusterrolebindings" if within is None else "rolebindings"
        body = {
            "metadata": {"name": f"{role.replace(':', '-')}-{subject[1]}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"kind": "ServiceAccount", "namespace": subject[0], "name": subject[1]}],
        }
        self._request("POST", f"{base}/{bindings}", body)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    with ApiServer(tmp_path_factory.mktemp("kubernetes")) as server:
        kubernetes = Kubernetes(server)
        for namespace in ("attune-system", "team-a", "team-b"):
            kubernetes.namespace(namespace)
        kubernetes.account("attune-system", "attune-api")
        kubernetes.bind(
            "system:auth-delegator", kind="ClusterRole", subject=("attune-system", "attune-api"), within=None
        )
        for name in ("nobody", "reader", "viewer", "minter", "late"):
            kubernetes.account("team-a", name)
        kubernetes.allow("reader", verbs=["get", "list"], resource="rules", within="team-a")
        kubernetes.allow("viewer", verbs=["get", "list"], resource="rules", within=None)
        kubernetes.allow("viewer", verbs=["list"], resource="sensors", within=None)
        kubernetes.allow("minter", verbs=["create"], resource="sensors/token", within="team-a")
        yield kubernetes


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, cluster: Kubernetes) -> Iterator[ApiProcess]:
    directory = tmp_path_factory.mktemp("api")
    token_file = directory / "service-account-token"
    token_file.write_text(cluster.token("attune-system", "attune-api"))
    process = ApiProcess(
        directory,
        kubernetes_auth="on",
        kubernetes_url=cluster.server.server,
        kubernetes_token_file=str(token_file),
        kubernetes_ca_file=str(cluster.server.authority),
    )
    with process:
        yield process


async def _post_one_in_each(api: ApiProcess) -> dict[str, str]:
    """An event of a rule in each namespace; their ids."""
    events = {
        name: report(k, rule_namespace=name, rule_uid=f"uid-{name}") for k, name in enumerate(("team-a", "team-b"))
    }
    async with api.client() as sensor:
        answer = await sensor.post("/api/v1/events/batch", json={"events": list(events.values())})
        assert answer.status_code == 200
    return {name: event["id"] for name, event in events.items()}


async def test_a_reader_of_one_namespace_reads_that_one(api: ApiProcess, cluster: Kubernetes) -> None:
    ids = await _post_one_in_each(api)
    async with api.client(cluster.token("team-a", "reader")) as reader:
        assert (await reader.get("/auth/whoami")).json()["data"]["login"] == "service:team-a/reader"
        own = await reader.get("/api/v1/events", params={"rule_namespace": "team-a"})
        assert [event["id"] for event in own.json()["data"]] == [ids["team-a"]]
        for query in ({"rule_namespace": "team-b"}, {}, {"rule_uid": "uid-team-a"}):
            answer = await reader.get("/api/v1/events", params=query)
            assert answer.status_code == 403
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
            assert "service:team-a/reader may not list rules.attune.dev" in answer.json()["detail"]
        assert (await reader.get(f"/api/v1/events/{ids['team-a']}")).status_code == 200
        assert (await reader.get(f"/api/v1/events/{ids['team-b']}")).status_code == 404
        assert (await reader.get("/api/v1/identities")).status_code == 403


async def test_an_id_that_another_namespace_s_rule_uses_too_is_the_one_that_a_reader_may_see(
    api: ApiProcess, cluster: Kubernetes
) -> None:
    ids = await _post_one_in_each(api)
    taken = report(7, rule_namespace="team-b", rule_uid="uid-taker", id=ids["team-a"])
    async with api.client() as sensor:
        assert (await sensor.post("/api/v1/events", json=taken)).status_code in (200, 201)
    path = f"/api/v1/events/{ids['team-a']}"
    async with api.client(cluster.token("team-a", "reader")) as reader:
        assert (await reader.get(path)).json()["data"]["rule_uid"] == "uid-team-a"
        assert (await reader.get(path, params={"rule_uid": "uid-taker"})).status_code == 404
    async with api.client(cluster.token("team-a", "viewer")) as viewer:
        ambiguous = await viewer.get(path)
        assert ambiguous.status_code == 409
        assert sorted(ambiguous.json()["rule_uids"]) == ["uid-taker", "uid-team-a"]
        assert (await viewer.get(path, params={"rule_uid": "uid-taker"})).json()["data"]["payload"] == {"k": 7}
    database = open_database(Settings(database_url=api.database_url).database_url)
    await database.write(lambda connection: connection.execute(text("DELETE FROM events WHERE rule_uid = 'uid-taker'")))
    await database.close()


@pytest.mark.parametrize(
    ("path", "namespace_is", "allowed"),
    [
        ("events/counts", "rule_namespace", 200),
        ("events/stream", "rule_namespace", 200),
        # 503: this API has no NATS to hear of rules from, which only who may read them is told.
        ("rules", "namespace", 503),
        ("rules/{}/echo", None, 503),
        ("rules/{}/echo/history", None, 503),
    ],
)
async def test_every_list_is_of_a_namespace_that_the_reader_may_see(
    api: ApiProcess, cluster: Kubernetes, path: str, namespace_is: str | None, allowed: int
) -> None:
    async def status(reader: httpx.AsyncClient, namespace: str | None) -> int:
        query = {namespace_is: namespace} if namespace_is and namespace else {}
        async with reader.stream("GET", f"/api/v1/{path.format(namespace)}", params=query) as answer:
            if answer.status_code == 403:
                assert "rules.attune.dev" in json.loads(await answer.aread())["detail"]
            return answer.status_code

    async with api.client(cluster.token("team-a", "reader")) as reader:
        assert await status(reader, "team-a") == allowed
        assert await status(reader, "team-b") == 403
        if namespace_is:
            assert await status(reader, None) == 403
    async with api.client(cluster.token("team-a", "viewer")) as viewer:
        assert await status(viewer, "team-b") == allowed
        if namespace_is:
            assert await status(viewer, None) == allowed


async def test_a_reader_of_the_cluster_reads_all(api: ApiProcess, cluster: Kubernetes) -> None:
    ids = await _post_one_in_each(api)
    async with api.client(cluster.token("team-a", "viewer")) as viewer:
        page = (await viewer.get("/api/v1/events")).json()
        assert {event["id"] for event in page["data"]} == set(ids.values())
        assert (await viewer.get("/api/v1/identities")).status_code == 200


async def test_an_account_without_rights_reads_and_mints_nothing(api: ApiProcess, cluster: Kubernetes) -> None:
    ids = await _post_one_in_each(api)
    async with api.client(cluster.token("team-a", "nobody")) as nobody:
        assert (await nobody.get("/auth/whoami")).status_code == 200
        assert (await nobody.get("/api/v1/events", params={"rule_namespace": "team-a"})).status_code == 403
        assert (await nobody.get(f"/api/v1/events/{ids['team-a']}")).status_code == 404


def _token_request(namespace: str) -> dict[str, Any]:
    return {"sensor_ref": f"{namespace}/edge", "trigger_types": ["edge.heat"]}


async def test_minting_needs_its_own_right_in_the_sensors_namespace(api: ApiProcess, cluster: Kubernetes) -> None:
    async with (
        api.client(cluster.token("team-a", "minter")) as minter,
        api.client(cluster.token("team-a", "reader")) as reader,
        api.client("") as anonymous,
    ):
        minted = await minter.post("/auth/sensor-token", json=_token_request("team-a"))
        assert minted.status_code == 201
        assert (await minter.post("/auth/sensor-token", json=_token_request("team-b"))).status_code == 403
        refused = await reader.post("/auth/sensor-token", json=_token_request("team-a"))
        assert refused.status_code == 403
        assert "create sensors/token.attune.dev in namespace team-a" in refused.json()["detail"]
        assert (await anonymous.post("/auth/sensor-token", json=_token_request("team-a"))).status_code == 401
    async with api.client(minted.json()["data"]["token"]) as sensor:
        assert (await sensor.post("/api/v1/events", json=report(trigger_type="edge.heat"))).status_code == 201


async def test_tokens_that_the_cluster_does_not_know_are_refused(api: ApiProcess, cluster: Kubernetes) -> None:
    good = cluster.token("team-a", "viewer")
    for token in ("garbled", good[:-6] + "AAAAAA", good + "x"):
        async with api.client(token) as client:
            answer = await client.get("/api/v1/events")
            assert answer.status_code == 401
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_a_token_of_the_cluster_reports_no_events(api: ApiProcess, cluster: Kubernetes) -> None:
    async with api.client(cluster.token("team-a", "viewer")) as viewer:
        assert (await viewer.post("/api/v1/events", json=report())).status_code == 401


async def test_a_right_that_is_given_counts_within_seconds(api: ApiProcess, cluster: Kubernetes) -> None:
    async with api.client(cluster.token("team-a", "late")) as late:
        query = {"rule_namespace": "team-b"}
        assert (await late.get("/api/v1/events", params=query)).status_code == 403
        cluster.allow("late", verbs=["list"], resource="rules", within="team-b")

        async def allowed() -> bool:
            return (await late.get("/api/v1/events", params=query)).status_code == 200

        await until(allowed, within=10)


async def test_with_the_api_server_away_sensors_go_on_and_others_wait(api: ApiProcess, cluster: Kubernetes) -> None:
    token = cluster.token("team-a", "viewer")
    cluster.server.stop()
    try:
        async with api.client(token) as viewer, api.client() as sensor:
            answer = await viewer.get("/api/v1/events")
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            assert (await sensor.post("/api/v1/events", json=report(99))).status_code == 201
            assert (await sensor.get("/ready")).status_code == 200
    finally:
        cluster.server.start()
    async with api.client(token) as viewer:
        assert (await viewer.get("/api/v1/events")).status_code == 200
