"""Statuses are written to exactly the object that they are about, by a real API server's rules."""

from typing import Any

import pytest
from support.kubectl_user import KubectlUser

from attune_operator.resources import kinds
from attune_operator.runtime.client import ClusterError

pytest_plugins = ["support.operator_fixtures"]

pytestmark = pytest.mark.apiserver

#: The default of the CustomResourceDefinition.
UNTOUCHED = {"observedGeneration": -1}


class OneRule:
    """A Rule of a name, and its status."""

    def __init__(self, user: KubectlUser) -> None:
        self.user = user

    async def make(self) -> str:
        """A new one; returns its uid."""
        made = await self.user.client.create(
            kinds.RULE,
            {
                "apiVersion": "attune.dev/v1alpha1",
                "kind": "Rule",
                "metadata": {"name": "echo", "namespace": self.user.namespace},
                "spec": {"trigger": {"type": "core.timer"}},
            },
        )
        uid: str = made["metadata"]["uid"]
        return uid

    async def write(self, uid: str, *, first: bool = False, **status: Any) -> bool:
        """Write fields of the status; returns whether it was written."""
        written = await self.user.client.merge_status(
            kinds.RULE, self.user.namespace, "echo", status, uid=uid, first=first
        )
        return written is not None

    async def status(self) -> Any:
        return (await self.user.get(kinds.RULE, "echo")).get("status", {})


@pytest.fixture
def rule(user: KubectlUser) -> OneRule:
    return OneRule(user)


@pytest.mark.parametrize("first", [True, False], ids=["no status is expected", "a status is expected"])
async def test_fields_are_put_in_and_others_stay(rule: OneRule, first: bool) -> None:
    """Whether there is a status already or not, and whatever was expected."""
    uid = await rule.make()
    assert await rule.write(uid, first=first, sensor="a/b", observedGeneration=1)
    assert await rule.status() == {"sensor": "a/b", "observedGeneration": 1}
    assert await rule.write(uid, first=first, sensor=None, observedGeneration=2, lastEventTime=None)
    assert await rule.status() == {"observedGeneration": 2}
    assert await rule.write(uid, first=first, lastEventTime="2026-11-27T12:00:00Z")
    assert await rule.status() == {"observedGeneration": 2, "lastEventTime": "2026-11-27T12:00:00Z"}


@pytest.mark.parametrize("first", [True, False])
async def test_another_object_of_the_name_is_left_alone(rule: OneRule, first: bool) -> None:
    before = await rule.make()
    await rule.user.delete(kinds.RULE, "echo")
    assert not await rule.write(before, first=first, sensor="a/b")
    after = await rule.make()
    assert not await rule.write(before, first=first, sensor="a/b")
    assert await rule.status() == UNTOUCHED
    assert await rule.write(after, sensor="c/d", observedGeneration=1)
    assert not await rule.write(before, first=first, sensor="a/b")
    assert await rule.status() == {"sensor": "c/d", "observedGeneration": 1}


async def test_a_status_that_is_not_valid_is_an_error(rule: OneRule) -> None:
    uid = await rule.make()
    with pytest.raises(ClusterError, match=r"observedGeneration in body must be of type integer"):
        await rule.write(uid, observedGeneration="one")
