"""Long lists of a real API server: page by page, complete, and with no more read than has changed."""

import pytest
from support.operator_hand import Hand

from attune_operator import kube
from attune_operator.runtime.client import Body, ClusterError

pytest_plugins = ["support.operator_fixtures"]

pytestmark = pytest.mark.apiserver


def config_map(hand: Hand, name: str, **data: str) -> kube.Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": hand.namespace, "labels": {"made-by": "this-test"}},
        "data": data,
    }


@pytest.fixture
async def made(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> dict[str, kube.Object]:
    """Five objects, where a page takes two."""
    monkeypatch.setattr(kube, "_PAGE", 2)
    bodies = [config_map(hand, f"item-{number}", number=str(number)) for number in range(5)]
    created = [await hand.client.create(kube.CONFIG_MAP, body) for body in bodies]
    return {body["metadata"]["uid"]: body for body in created}


async def test_a_list_of_several_pages_is_complete(hand: Hand, made: dict[str, kube.Object]) -> None:
    listed = await hand.client.list_objects(kube.CONFIG_MAP, hand.namespace, labels="made-by=this-test")
    assert {body["metadata"]["uid"]: body for body in listed} == made


async def test_only_what_is_not_known_is_read(hand: Hand, made: dict[str, kube.Object]) -> None:
    versions = {uid: body["metadata"]["resourceVersion"] for uid, body in made.items()}
    changed = await hand.client.apply(kube.CONFIG_MAP, config_map(hand, "item-3", changed="yes"))
    new = await hand.client.create(kube.CONFIG_MAP, config_map(hand, "new"))
    read: list[str] = []

    def mine(body: Body) -> str | None:
        read.append(body["metadata"]["name"])
        return body["metadata"]["name"] if "made-by" in body["metadata"].get("labels", {}) else None

    found = await hand.client.list_changed(
        kube.CONFIG_MAP, hand.namespace, read=mine, known=lambda uid, version: versions.get(uid) == version
    )
    assert sorted(found.read) == ["item-3", "new"]
    assert set(found.unchanged) == set(made) - {changed["metadata"]["uid"]}
    assert {"kube-root-ca.crt", "item-3", "new"} >= set(read), "nothing else was decoded"
    assert new["metadata"]["uid"] not in found.unchanged


async def test_an_empty_list_is_one(hand: Hand) -> None:
    found = await hand.client.list_changed(kube.RULE, hand.namespace, read=lambda body: body, known=lambda *_: False)
    assert (found.read, found.unchanged) == ([], [])


async def test_what_is_no_list_is_said_to_be_none(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that answers with a page of its own, say."""

    async def answer(*_: object, **__: object) -> bytes:
        return b"<html>"

    monkeypatch.setattr(hand.client, "_call", answer)
    with pytest.raises(ClusterError, match=r"GET .*/configmaps: the answer is no list: JSON is malformed"):
        await hand.client.list_objects(kube.CONFIG_MAP, hand.namespace)
