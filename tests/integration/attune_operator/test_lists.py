"""Long lists of a real API server: page by page, complete, and with no more read than has changed."""

import pytest
from support.kubectl_user import KubectlUser

from attune_kit.kubernetes import client as kubernetes_client
from attune_operator.resources import kinds
from attune_operator.runtime.client import Body, ClusterError

pytest_plugins = ["support.operator_fixtures"]

pytestmark = pytest.mark.apiserver


def config_map(user: KubectlUser, name: str, **data: str) -> kinds.Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": user.namespace, "labels": {"made-by": "this-test"}},
        "data": data,
    }


@pytest.fixture
async def made(user: KubectlUser, monkeypatch: pytest.MonkeyPatch) -> dict[str, kinds.Object]:
    """Five objects, where a page takes two."""
    monkeypatch.setattr(kubernetes_client, "PAGE", 2)
    bodies = [config_map(user, f"item-{number}", number=str(number)) for number in range(5)]
    created = [await user.client.create(kinds.CONFIG_MAP, body) for body in bodies]
    return {body["metadata"]["uid"]: body for body in created}


async def test_a_list_of_several_pages_is_complete(user: KubectlUser, made: dict[str, kinds.Object]) -> None:
    listed = await user.client.list_objects(kinds.CONFIG_MAP, user.namespace, labels="made-by=this-test")
    assert {body["metadata"]["uid"]: body for body in listed} == made


async def test_only_what_is_not_known_is_read(user: KubectlUser, made: dict[str, kinds.Object]) -> None:
    versions = {uid: body["metadata"]["resourceVersion"] for uid, body in made.items()}
    changed = await user.client.apply(kinds.CONFIG_MAP, config_map(user, "item-3", changed="yes"))
    new = await user.client.create(kinds.CONFIG_MAP, config_map(user, "new"))
    read: list[str] = []

    def mine(body: Body) -> str | None:
        read.append(body["metadata"]["name"])
        return body["metadata"]["name"] if "made-by" in body["metadata"].get("labels", {}) else None

    found = await user.client.list_changed(
        kinds.CONFIG_MAP, user.namespace, read=mine, known=lambda uid, version: versions.get(uid) == version
    )
    assert sorted(found.read) == ["item-3", "new"]
    assert set(found.unchanged) == set(made) - {changed["metadata"]["uid"]}
    assert {"kube-root-ca.crt", "item-3", "new"} >= set(read), "nothing else was decoded"
    assert new["metadata"]["uid"] not in found.unchanged


async def test_an_empty_list_is_one(user: KubectlUser) -> None:
    found = await user.client.list_changed(kinds.RULE, user.namespace, read=lambda body: body, known=lambda *_: False)
    assert (found.read, found.unchanged) == ([], [])


async def test_what_is_no_list_is_said_to_be_none(user: KubectlUser, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that answers with a page of its own, say."""

    async def answer(*_: object, **__: object) -> bytes:
        return b"<html>"

    monkeypatch.setattr(user.client._client, "request", answer)
    with pytest.raises(ClusterError, match=r"GET .*/configmaps: the answer is no list: JSON is malformed"):
        await user.client.list_objects(kinds.CONFIG_MAP, user.namespace)
