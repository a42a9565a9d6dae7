"""The store follows the files; what was changed elsewhere, and what came of a file that became bad, stays."""

from pathlib import Path

import pytest

from attune_local.admission import Checked, Problem, check_text
from attune_local.manifests import Manifests
from attune_local.notices import Notices
from attune_local.objects import ObjectStore
from attune_operator.resources.kinds import RULE, SECRET, SENSOR, Object

RULE_TEXT = """apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {{name: {name}}}
spec:
  trigger:
    type: a.b
    parameters: {{x: {x}}}
"""


def text(name: str = "r", x: int = 1) -> str:
    return RULE_TEXT.format(name=name, x=x)


class Followed:
    """A folder, a store, and what was said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ObjectStore()
        self.said: list[Problem] = []
        self.begin()

    def begin(self) -> None:
        """As a new run does."""
        self.manifests = Manifests([self.folder], self.store, on_problem=self.said.append)

    async def look(self) -> None:
        await self.manifests.load()

    def rules(self) -> dict[str, Object]:
        return {body["metadata"]["name"]: body["spec"] for body in self.store.list_objects(RULE)}


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path)


async def test_files_come_change_and_go(followed: Followed) -> None:
    (followed.folder / "a.yaml").write_text(text("one") + "---\n" + text("two"))
    await followed.look()
    assert set(followed.rules()) == {"one", "two"}
    uid = followed.store.need(RULE, "default", "one")["metadata"]["uid"]
    (followed.folder / "a.yaml").write_text(text("one", x=2))
    await followed.look()
    assert set(followed.rules()) == {"one"}
    assert followed.rules()["one"]["trigger"]["parameters"] == {"x": 2}
    assert followed.store.need(RULE, "default", "one")["metadata"]["uid"] == uid
    (followed.folder / "a.yaml").unlink()
    await followed.look()
    assert not followed.rules()


async def test_a_file_that_becomes_bad_keeps_what_came_of_it_also_over_runs(followed: Followed) -> None:
    (followed.folder / "a.yaml").write_text(text("one") + "---\n" + text("two"))
    await followed.look()
    (followed.folder / "a.yaml").write_text(text("one").replace("type:", "tipe:") + "---\n" + text("two", x=2))
    await followed.look()
    assert set(followed.rules()) == {"one", "two"}
    assert followed.rules()["two"]["trigger"]["parameters"] == {"x": 2}
    assert followed.said
    followed.begin()
    await followed.look()
    assert set(followed.rules()) == {"one", "two"}


async def test_the_same_mistake_is_said_once(followed: Followed) -> None:
    (followed.folder / "a.yaml").write_text(text() + "  wrong: 1\n")
    await followed.look()
    (followed.folder / "b.yaml").write_text(text("other"))
    await followed.look()
    assert [str(problem).partition(" ")[2] for problem in followed.said] == [
        "spec.wrong: unknown field; expected one of: enabled, trigger"
    ]


async def test_of_two_files_with_the_same_object_the_first_holds(followed: Followed) -> None:
    (followed.folder / "a.yaml").write_text(text(x=1))
    (followed.folder / "b.yaml").write_text(text(x=2))
    await followed.look()
    assert followed.rules()["r"]["trigger"]["parameters"] == {"x": 1}
    [problem] = followed.said
    assert "already, which holds" in problem.message


async def test_a_change_by_command_holds_until_the_object_changes_in_its_file(followed: Followed) -> None:
    (followed.folder / "a.yaml").write_text(text())
    await followed.look()
    followed.store.merge(RULE, "default", "r", {"spec": {"enabled": False}}, manager="attune")
    (followed.folder / "a.yaml").write_text("# a remark\n" + text() + "---\n" + text("other"))
    await followed.look()
    followed.begin()
    await followed.look()
    assert followed.rules()["r"]["enabled"] is False
    (followed.folder / "a.yaml").write_text(text(x=2))
    await followed.look()
    assert followed.rules()["r"]["enabled"] is True


async def test_texts_of_secrets_are_kept_as_kubernetes_does(followed: Followed) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {key: value}\n"
    (followed.folder / "a.yaml").write_text(secret)
    await followed.look()
    assert followed.store.need(SECRET, "default", "s")["data"] == {"key": "dmFsdWU="}


def test_troubles_are_said_once_with_file_and_line() -> None:
    head = "apiVersion: attune.dev/v1alpha1\nkind: Sensor\nmetadata: {name: s}\n"
    sensor = head + "spec:\n  image: x\n  triggerTypes: [{name: a.b}]\n"
    [written] = check_text(sensor, source="s.yaml").objects
    said: list[str] = []

    def find(kind: str, namespace: str, name: str) -> Checked | None:
        return written if (kind, namespace, name) == written.key else None

    notices = Notices(find=find, say=said.append)

    def seen(status: str, reason: str, message: str) -> None:
        condition = {"type": "Ready", "status": status, "reason": reason, "message": message, "observedGeneration": 1}
        metadata = {"name": "s", "namespace": "default", "uid": "u", "generation": 1}
        notices.on_change(SENSOR, "MODIFIED", {"metadata": metadata, "status": {"conditions": [condition]}})

    seen("False", "Progressing", "0 of 1")
    seen("False", "ImagePullBackOff", "It cannot be pulled for pod a.")
    seen("False", "ImagePullBackOff", "It cannot be pulled for pod b.")
    seen("True", "Available", "fine")
    seen("True", "Available", "fine")
    assert said == ["s.yaml:5: Sensor default/s: It cannot be pulled for pod a.", "Sensor default/s is ready now."]
