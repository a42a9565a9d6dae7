"""The watch of Rules at a real API server: every change once and in order, and a new beginning where some are lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from support.eventually import until
from support.kubectl_user import KubectlUser

from attune_kit.kubernetes.client import KubernetesClient
from attune_operator.resources import kinds
from attune_operator.runtime.client import Body, WatchEventType
from attune_operator.runtime.rule_watch import RuleWatch

pytest_plugins = ["support.operator_fixtures"]

pytestmark = pytest.mark.apiserver


class Seen:
    """What a watch showed."""

    def __init__(self) -> None:
        self.changes: list[tuple[WatchEventType, str, int]] = []
        self.begun = 0

    def change(self, kind: WatchEventType, body: Body) -> None:
        self.changes.append((kind, body["metadata"]["name"], body["spec"]["trigger"]["parameters"]["interval"]))

    def begin(self) -> None:
        self.begun += 1


@asynccontextmanager
async def watching(user: KubectlUser, seen: Seen, *, first: str = "") -> AsyncIterator[None]:
    """A watch of the user's namespace, which believes ``first`` to be the present version when it asks first."""

    class Watch(RuleWatch):
        async def _present(self, path: str) -> str:
            return first if first and not seen.begun else await super()._present(path)

    watch = Watch(access=user.client.access, namespaces=(user.namespace,), on_change=seen.change, on_begun=seen.begin)
    task = asyncio.create_task(watch.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def rule(user: KubectlUser, name: str, interval: int) -> kinds.Object:
    return {
        "apiVersion": "attune.dev/v1alpha1",
        "kind": "Rule",
        "metadata": {"name": name, "namespace": user.namespace},
        "spec": {"trigger": {"type": "core.intervaltimer", "parameters": {"interval": interval}}},
    }


async def test_what_happens_after_the_beginning_is_shown_once_and_in_order(user: KubectlUser) -> None:
    await user.client.create(kinds.RULE, rule(user, "older", 1))
    seen = Seen()
    async with watching(user, seen):
        await until(lambda: seen.begun == 1, within=30)
        made = await user.client.create(kinds.RULE, rule(user, "one", 1))
        for interval in (2, 3):
            await user.client.merge(kinds.RULE, user.namespace, "one", {"spec": rule(user, "one", interval)["spec"]})
        await user.client.delete(kinds.RULE, user.namespace, "one", uid=made["metadata"]["uid"])
        await until(lambda: len(seen.changes) >= 4, within=30)
    assert seen.changes == [("ADDED", "one", 1), ("MODIFIED", "one", 2), ("MODIFIED", "one", 3), ("DELETED", "one", 3)]
    assert seen.begun == 1


async def test_where_the_changes_are_no_longer_kept_it_begins_anew_and_says_so(user: KubectlUser) -> None:
    seen = Seen()
    async with watching(user, seen, first="1"):
        await until(lambda: seen.begun == 2, within=30)
        await user.client.create(kinds.RULE, rule(user, "later", 7))
        await until(lambda: ("ADDED", "later", 7) in seen.changes, within=30)


@pytest.mark.parametrize("levels", [1_200, 5_000])
async def test_a_rule_that_is_nested_too_deep_is_passed_over_alone(user: KubectlUser, levels: int) -> None:
    """The API server takes it, and whoever may create Rules could stop the operator with it."""
    seen = Seen()
    deep = b'{"a":' * levels + b"1" + b"}" * levels
    spec = b'"spec":{"trigger":{"type":"core.intervaltimer","parameters":{"interval":1,"x":' + deep + b"}}}"
    head = f'{{"apiVersion":"attune.dev/v1alpha1","kind":"Rule","metadata":{{"name":"deep","namespace":"{user.namespace}"}},'
    plain = KubernetesClient(user.client.access, user_agent="test")
    try:
        async with watching(user, seen):
            await until(lambda: seen.begun == 1, within=30)
            await plain.request("POST", kinds.RULE.path(user.namespace), body=msgspec.Raw(head.encode() + spec + b"}"))
            await user.client.create(kinds.RULE, rule(user, "plain", 2))
            await until(lambda: seen.changes == [("ADDED", "plain", 2)], within=30)
        listed = await user.client.list_objects(kinds.RULE, user.namespace)
        assert [each["metadata"]["name"] for each in listed] == ["plain"]
    finally:
        await plain.request("DELETE", kinds.RULE.path(user.namespace, "deep"))
        await plain.close()


async def test_a_namespace_that_comes_later_is_watched_from_then_on(user: KubectlUser) -> None:
    """The API server gives an empty list and a watch of a namespace that is not there."""
    seen, absent = Seen(), f"{user.namespace}-later"
    watch = RuleWatch(access=user.client.access, namespaces=(absent,), on_change=seen.change, on_begun=seen.begin)
    task = asyncio.create_task(watch.run())
    try:
        await until(lambda: seen.begun == 1, within=30)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": absent}}
        await user.client.create(kinds.NAMESPACE, body)
        later = rule(user, "there", 5)
        await user.client.create(kinds.RULE, later | {"metadata": {"name": "there", "namespace": absent}})
        await until(lambda: seen.changes == [("ADDED", "there", 5)], within=30)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
