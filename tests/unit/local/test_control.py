"""The control API refuses what an API server refuses, in its words: a ``Status`` with 400, 401, 409 or 422."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attune_local.control import Control
from attune_local.objects import ObjectStore
from attune_local.ports import free_port
from attune_operator.public.objects import RULE, SENSOR

RULES = "/apis/attune.dev/v1alpha1/namespaces/ns/rules"
TOKEN = "of-this-test"


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore()


@pytest.fixture
async def client(store: ObjectStore, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    control = Control(store, token=TOKEN, log_file=lambda pod: tmp_path / pod["metadata"]["name"])
    port = free_port()
    await control.start(port=port)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as connected:
        yield connected
    await control.stop()


def rule(name: Any = "r", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "attune.dev/v1alpha1",
        "kind": "Rule",
        "metadata": {"name": name, **metadata},
        "spec": {"trigger": {"type": "core.intervaltimer", "parameters": {"interval": 1}}},
    }


async def post(client: httpx.AsyncClient, body: Any, path: str = RULES) -> tuple[int, dict[str, Any]]:
    answer = await client.post(path, content=json.dumps(body))
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    "name", ["../../x", "a\nb", "ABC", "*", "", None, "a" * 254, "-a", "a.", "ä", "a/b", "a\x00", "."]
)
@pytest.mark.parametrize("kind", ["Rule", "Sensor", "Secret", "Namespace", "Pod"])
async def test_an_object_with_a_name_that_no_cluster_takes_is_not_stored(
    client: httpx.AsyncClient, store: ObjectStore, name: Any, kind: str
) -> None:
    paths = {
        "Secret": "/api/v1/namespaces/ns/secrets",
        "Namespace": "/api/v1/namespaces",
        "Pod": "/api/v1/namespaces/ns/pods",
    }
    body = rule(name)
    if kind == "Sensor":
        body = {**body, "kind": "Sensor", "spec": {"image": "x", "triggerTypes": [{"name": "a.b"}]}}
    elif kind != "Rule":
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
    code, answer = await post(
        client, body, paths.get(kind, RULES if kind == "Rule" else RULES.replace("rules", "sensors"))
    )
    assert (code, answer["kind"], answer["reason"]) == (422, "Status", "Invalid")
    assert "metadata.name" in answer["message"]
    assert not list(store.kinds())


@pytest.mark.parametrize(
    ("metadata", "code", "field"),
    [
        ({"namespace": "other"}, 400, "metadata.namespace"),
        ({"labels": {"a": 1}}, 400, "metadata.labels.a"),
        ({"labels": {"a b": "x"}}, 422, "metadata.labels.a b"),
        ({"labels": {"a": "x y"}}, 422, "metadata.labels.a"),
        ({"annotations": {"a/b/c": "x"}}, 422, "metadata.annotations.a/b/c"),
        ({"annotations": {"a": "x" * 300_000}}, 422, "metadata.annotations"),
        ({"finalizers": ["not a key"]}, 422, "metadata.finalizers[0]"),
        ({"ownerReferences": [{"name": "x"}]}, 422, "metadata.ownerReferences[0].uid"),
        ({"creationTimestamp": "yesterday"}, 400, "metadata.creationTimestamp"),
        ({"generateName": "UP"}, 422, "metadata.generateName"),
    ],
)
async def test_the_rest_of_the_metadata_is_judged_as_well(
    client: httpx.AsyncClient, metadata: dict[str, Any], code: int, field: str
) -> None:
    found, answer = await post(client, rule(**metadata))
    assert found == code
    assert field in answer["message"]


async def test_a_name_is_made_where_only_its_beginning_is_given(client: httpx.AsyncClient) -> None:
    body = rule(generateName="job-")
    del body["metadata"]["name"]
    code, answer = await post(client, body)
    assert code == 201
    assert len(answer["metadata"]["name"]) == len("job-") + 5


async def test_unknown_fields_of_the_metadata_are_dropped_or_refused_as_the_client_asks(
    client: httpx.AsyncClient,
) -> None:
    code, answer = await post(client, rule(Namespace="team-a"))
    assert (code, "Namespace" in answer["metadata"]) == (201, False)
    code, answer = await post(client, rule("other", Namespace="team-a"), f"{RULES}?fieldValidation=Strict")
    assert code == 400
    assert "metadata.Namespace: unknown field" in answer["message"]


@pytest.mark.parametrize("content_type", ["application/apply-patch+yaml", "application/merge-patch+json"])
async def test_a_patch_is_judged_like_a_new_object(
    client: httpx.AsyncClient, store: ObjectStore, content_type: str
) -> None:
    await post(client, rule())
    before = store.need(RULE, "ns", "r")
    headers = {"Content-Type": content_type}
    for change, code in (
        ({"metadata": {"labels": {"a": "x y"}}}, 422),
        ({"metadata": {"name": "other"}}, 400),
        ({"metadata": {"labels": {"a": 1}}}, 400),
        ({"kind": "Sensor"}, 400),
    ):
        body = {**rule(), **change, "metadata": {**rule()["metadata"], **change.get("metadata", {})}}  # type: ignore[dict-item]
        answer = await client.patch(f"{RULES}/r", content=json.dumps(body), headers=headers)
        assert (answer.status_code, answer.json()["kind"]) == (code, "Status"), answer.text
    stale = {"metadata": {"resourceVersion": "1000"}}
    answer = await client.patch(
        f"{RULES}/r", content=json.dumps(stale), headers={"Content-Type": "application/merge-patch+json"}
    )
    assert answer.status_code == 409
    assert store.need(RULE, "ns", "r") == before
    answer = await client.patch(f"{RULES}/Not-a-name", content=json.dumps({**rule(), "metadata": {}}), headers=headers)
    assert answer.status_code in (404, 422)
    assert len(store.list_objects(RULE)) == 1


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe", b"[" * 100_000, b"[1]", b"NaN", b"a: [", b"", b"&a [*a]"],
)
async def test_a_body_that_cannot_be_read_is_a_bad_request(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post(RULES, content=body)
    assert (answer.status_code, answer.json()["kind"]) == (400, "Status")


async def test_a_body_that_is_too_large_is_refused_with_a_status(client: httpx.AsyncClient) -> None:
    answer = await client.post(RULES, content=b" " * (5 * 1024 * 1024))
    assert (answer.status_code, answer.json()["reason"]) == (413, "RequestEntityTooLarge")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer x",
        b"Basic of-this-test",
        b"Bearer \xff\xfe",
        b"\xff",
        "Bearer of-this-test\xe4".encode(),
    ],
)
async def test_nobody_gets_in_without_the_token_and_odd_bytes_are_no_failure(
    client: httpx.AsyncClient, header: bytes
) -> None:
    answer = await client.get(RULES, headers={b"Authorization": header})
    assert (answer.status_code, answer.json()["reason"]) == (401, "Unauthorized")


async def test_what_goes_wrong_inside_is_a_status_too(
    client: httpx.AsyncClient, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(store, "list_objects", fails)
    answer = await client.get(RULES)
    assert (answer.status_code, answer.json()["kind"]) == (500, "Status")
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "/apis/attune.dev/v1alpha1/rules", 405),
        ("GET", "/apis/attune.dev/v1alpha1/rules/r", 404),
        ("GET", "/api/v1/namespaces/ns/namespaces/x", 404),
        ("PUT", f"{RULES}/r", 405),
        ("GET", f"{RULES}/..%2F..%2Fx", 404),
    ],
)
async def test_paths_are_those_of_an_api_server(client: httpx.AsyncClient, method: str, path: str, code: int) -> None:
    answer = await client.request(method, path, content=json.dumps(rule()) if method != "GET" else None)
    assert (answer.status_code, answer.json()["kind"]) == (code, "Status")


async def test_sensors_and_rules_are_still_made(client: httpx.AsyncClient, store: ObjectStore) -> None:
    assert (await post(client, rule()))[0] == 201
    sensor = {**rule("core.timer"), "kind": "Sensor", "spec": {"image": "x", "triggerTypes": [{"name": "a.b"}]}}
    assert (await post(client, sensor, RULES.replace("rules", "sensors")))[0] == 201
    assert store.get(SENSOR, "ns", "core.timer") is not None
