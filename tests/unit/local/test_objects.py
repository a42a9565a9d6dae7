"""Objects behave as an API server's, as far as the operator relies on it; and they survive."""

from pathlib import Path
from typing import Any

import pytest

from attune_contract import names
from attune_local.objects import ObjectStore, fields
from attune_local.objects.backend import LocalClient
from attune_operator.resources import difference
from attune_operator.resources.kinds import CONFIG_MAP, DEPLOYMENT, NAMESPACE, POD, RULE, SECRET, SENSOR, Object
from attune_operator.runtime.client import ClusterError

OPERATOR = names.FIELD_MANAGER


def rule(name: str = "r", **spec: Any) -> Object:
    return {
        "apiVersion": "attune.dev/v1alpha1",
        "kind": "Rule",
        "metadata": {"name": name, "namespace": "ns"},
        "spec": spec,
    }


def child(owner: Object, **data: str) -> Object:
    metadata = {"name": "child", "namespace": "ns", "ownerReferences": [{"uid": owner["metadata"]["uid"]}]}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def test_a_merge_patch_is_that_of_the_rfc() -> None:
    cases: list[tuple[Any, Any, Any]] = [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a"], {"a": "b"}, {"a": "b"}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ]
    for value, patch, wanted in cases:
        assert fields.merged(value, patch) == wanted


def test_apply_takes_away_what_its_manager_said_before_and_leaves_what_others_said() -> None:
    store = ObjectStore()
    store.apply(RULE, rule(a=1, b={"x": 1, "y": 2}), manager="one")
    store.merge(RULE, "ns", "r", {"spec": {"b": {"z": 3}, "c": 4}}, manager="two")
    after = store.apply(RULE, rule(a=5, b={"y": 2}), manager="one")
    assert after["spec"] == {"a": 5, "b": {"y": 2, "z": 3}, "c": 4}
    after = store.apply(RULE, rule(a=5), manager="one")
    assert after["spec"] == {"a": 5, "b": {"z": 3}, "c": 4}


def test_a_stranger_in_the_operators_object_is_seen_and_goes_with_a_replace() -> None:
    store = ObjectStore()
    wanted = child(store.create(SENSOR, rule("s"), manager="x"), mine="1")
    written = store.apply(SECRET, wanted, manager=OPERATOR)
    assert difference.is_applied(written, wanted)
    changed = store.merge(SECRET, "ns", "child", {"data": {"theirs": "2"}}, manager="kubectl-edit")
    assert difference.foreign_managers(changed) == ("kubectl-edit",)
    mended = store.replace(SECRET, difference.without_foreign_fields(changed, wanted), manager=OPERATOR)
    assert mended["data"] == {"mine": "1"}
    assert difference.is_applied(mended, wanted)


def test_the_generation_is_of_the_spec_and_the_version_of_everything() -> None:
    store = ObjectStore()
    first = store.create(RULE, rule(a=1), manager="x")
    status = store.merge(RULE, "ns", "r", {"status": {"ok": True}, "spec": {"a": 9}}, manager="x", subresource="status")
    assert status["spec"] == {"a": 1}
    assert status["metadata"]["generation"] == first["metadata"]["generation"] == 1
    spec = store.merge(RULE, "ns", "r", {"spec": {"a": 2}, "status": {"ok": False}}, manager="x")
    assert spec["status"] == {"ok": True}
    assert spec["metadata"]["generation"] == 2
    versions = [int(body["metadata"]["resourceVersion"]) for body in (first, status, spec)]
    assert versions == sorted(set(versions))
    assert store.merge(RULE, "ns", "r", {"spec": {"a": 2}}, manager="x") is spec, "nothing has changed"


def test_writes_that_lose_are_refused() -> None:
    store = ObjectStore()
    first = store.create(RULE, rule(a=1), manager="x")
    with pytest.raises(ClusterError) as taken:
        store.create(RULE, rule(), manager="x")
    store.merge(RULE, "ns", "r", {"spec": {"a": 2}}, manager="x")
    with pytest.raises(ClusterError) as stale:
        store.replace(RULE, first, manager="x")
    with pytest.raises(ClusterError) as other:
        store.delete(RULE, "ns", "r", uid="another")
    assert [error.value.status for error in (taken, stale, other)] == [409, 409, 409]
    with pytest.raises(ClusterError) as absent:
        store.need(RULE, "ns", "absent")
    assert absent.value.status == 404


def test_what_an_object_owned_goes_with_it_and_pods_wait_for_their_process() -> None:
    store = ObjectStore()
    told: list[tuple[str, str | None, str]] = []
    store.subscribe(lambda kind, event, body: told.append((kind.kind, event, body["metadata"]["name"])))
    sensor = store.create(SENSOR, rule("s"), manager="x")
    secret = store.apply(SECRET, child(sensor), manager=OPERATOR)
    pod = {"metadata": {"name": "p", "namespace": "ns", "ownerReferences": [{"uid": secret["metadata"]["uid"]}]}}
    store.create(POD, pod, manager="x")
    told.clear()
    store.delete(SENSOR, "ns", "s")
    assert told == [("Sensor", "DELETED", "s"), ("Secret", "DELETED", "child"), ("Pod", "MODIFIED", "p")]
    marked = store.need(POD, "ns", "p")
    assert marked["metadata"]["deletionTimestamp"]
    store.remove(POD, marked)
    assert store.get(POD, "ns", "p") is None


def test_a_namespace_is_there_when_something_is_in_it_and_takes_all_along() -> None:
    store = ObjectStore()
    store.create(RULE, rule(), manager="x")
    found = store.need(NAMESPACE, None, "ns")
    assert found["metadata"]["labels"] == {"kubernetes.io/metadata.name": "ns"}
    store.delete(NAMESPACE, None, "ns")
    assert store.get(RULE, "ns", "r") is None


def test_everything_survives_and_versions_go_on(tmp_path: Path) -> None:
    path = tmp_path / "objects.db"
    store = ObjectStore(path)
    made = store.apply(RULE, rule(a=1, b=2), manager="file")
    store.set_status(RULE, "ns", "r", {"ok": True})
    store.apply(SECRET, child(made, token="eA=="), manager=OPERATOR)
    store.create(CONFIG_MAP, {"metadata": {"name": "gone", "namespace": "ns"}}, manager="x")
    store.delete(CONFIG_MAP, "ns", "gone")
    version = int(store.need(SECRET, "ns", "child")["metadata"]["resourceVersion"])
    # Not closed: as after kill -9.
    again = ObjectStore(path)
    found = again.need(RULE, "ns", "r")
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    assert found["status"] == {"ok": True}
    assert again.get(CONFIG_MAP, "ns", "gone") is None
    assert path.stat().st_mode & 0o077 == 0
    after = again.apply(RULE, rule(a=1), manager="file")
    assert after["spec"] == {"a": 1}, "what the manager said before is remembered"
    assert int(after["metadata"]["resourceVersion"]) > version
    store.close()
    again.close()


def test_labels_select() -> None:
    store = ObjectStore()
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "2", "y": "1"})):
        store.create(DEPLOYMENT, {"metadata": {"name": name, "namespace": "ns", "labels": labels}}, manager="x")

    def names_of(selector: str) -> list[str]:
        return [body["metadata"]["name"] for body in store.list_objects(DEPLOYMENT, labels=selector)]

    assert names_of("x=1") == ["a"]
    assert names_of("x") == ["a", "b"]
    assert names_of("x=2,y") == ["b"]
    with pytest.raises(ValueError, match="only terms like"):
        names_of("x!=1")


async def test_a_status_is_written_to_exactly_the_object_that_it_is_about() -> None:
    store = ObjectStore()
    client = LocalClient(store)
    before = store.create(RULE, rule(), manager="x")["metadata"]["uid"]
    assert await client.merge_status(RULE, "ns", "r", {"sensor": "a/b", "ok": True}, uid=before, first=True)
    written = await client.merge_status(RULE, "ns", "r", {"ok": None}, uid=before)
    assert written is not None
    assert written["status"] == {"sensor": "a/b"}
    store.delete(RULE, "ns", "r")
    assert await client.merge_status(RULE, "ns", "r", {"ok": True}, uid=before) is None
    store.create(RULE, rule(), manager="x")
    assert await client.merge_status(RULE, "ns", "r", {"ok": True}, uid=before) is None
    assert "status" not in (store.get(RULE, "ns", "r") or {})
