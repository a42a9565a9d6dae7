"""The store follows the files; what was changed elsewhere, and what came of a file that became bad, stays."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attune_local.admission import Checked, Problem, check_text
from attune_local.manifests import Manifests, Reader
from attune_local.manifests.follow import HOLD
from attune_local.manifests.reading import PATIENCE, QUIET
from attune_local.manifests.writers import being_written
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
    """A folder, a store, a clock, and what was reported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ObjectStore()
        self.said: list[Problem] = []
        self.writers: set[Path] = set()
        self.clock = 1000.0
        self.begin()

    def begin(self) -> None:
        """As a new run does."""
        self.reader = Reader(
            [self.folder],
            writers=lambda paths: self.writers & set(paths),
            monotonic=lambda: self.clock,
        )
        self.manifests = Manifests(
            [self.folder], self.store, on_problem=self.said.append, reader=self.reader, monotonic=lambda: self.clock
        )
        self.reader.look()
        self.clock += 1
        self.manifests.apply(self.reader.look())

    async def look(self, *, after: float = 1.0) -> None:
        """Look twice: once when a change is first seen, once when it has been quiet for a while."""
        await self.manifests.refresh()
        self.clock += after
        await self.manifests.refresh()

    def rules(self) -> dict[str, Object]:
        return {body["metadata"]["name"]: body["spec"] for body in self.store.list_objects(RULE)}

    def uid(self, name: str) -> str:
        return str(self.store.need(RULE, "default", name)["metadata"]["uid"])


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path)


async def test_files_come_change_and_go(followed: Followed) -> None:
    (followed.folder / "a.yaml").write_text(text("one") + "---\n" + text("two"))
    await followed.look()
    assert set(followed.rules()) == {"one", "two"}
    uid = followed.uid("one")
    (followed.folder / "a.yaml").write_text(text("one", x=2))
    await followed.look(after=1)
    assert followed.rules()["one"]["trigger"]["parameters"] == {"x": 2}
    assert set(followed.rules()) == {"one", "two"}, "what is missing is held for a while"
    await followed.look(after=HOLD)
    assert set(followed.rules()) == {"one"}
    assert followed.uid("one") == uid
    (followed.folder / "a.yaml").unlink()
    await followed.look(after=HOLD + 1)
    assert not followed.rules()


async def test_a_file_is_read_when_it_no_longer_changes(followed: Followed) -> None:
    path = followed.folder / "a.yaml"
    path.write_text(text(x=300))
    await followed.look()
    path.write_text(text(x=3))
    await followed.manifests.refresh()
    assert followed.rules()["r"]["trigger"]["parameters"] == {"x": 300}
    assert followed.manifests.scan.unsettled
    path.write_text(text(x=30))
    followed.clock += QUIET * 0.9
    await followed.manifests.refresh()
    followed.clock += QUIET * 0.9
    await followed.manifests.refresh()
    assert followed.rules()["r"]["trigger"]["parameters"] == {"x": 300}, "each change begins the wait again"
    followed.clock += QUIET * 0.2
    await followed.manifests.refresh()
    assert followed.rules()["r"]["trigger"]["parameters"] == {"x": 30}
    assert not followed.manifests.scan.unsettled


async def test_a_file_that_somebody_holds_open_for_writing_is_waited_for(followed: Followed) -> None:
    path = followed.folder / "a.yaml"
    path.write_text(text(x=300))
    await followed.look()
    followed.writers = {path}
    path.write_text("")
    await followed.look(after=HOLD * 2)
    assert followed.rules()["r"]["trigger"]["parameters"] == {"x": 300}
    path.write_text(text(x=3))
    await followed.look(after=4)
    assert followed.rules()["r"]["trigger"]["parameters"] == {"x": 300}, "half of 300"
    followed.writers = set()
    path.write_text(text(x=301))
    await followed.look()
    assert followed.rules()["r"]["trigger"]["parameters"] == {"x": 301}
    followed.writers = {path}
    path.write_text(text(x=4))
    await followed.look(after=PATIENCE + 1)
    assert followed.rules()["r"]["trigger"]["parameters"] == {"x": 4}, "not for ever"


@pytest.mark.parametrize(
    "how", ["emptied", "removed", "renamed over", "moved to another file", "folder rendered again"]
)
async def test_what_comes_back_in_time_keeps_uid_and_switch(followed: Followed, how: str) -> None:
    path = followed.folder / "a.yaml"
    path.write_text(text())
    await followed.look()
    followed.store.merge(RULE, "default", "r", {"spec": {"enabled": False}}, manager="attune")
    uid = followed.uid("r")
    if how == "emptied":
        path.write_text("")
    elif how == "removed":
        path.unlink()
    elif how == "moved to another file":
        path.rename(followed.folder / "b.yaml")
    elif how == "folder rendered again":
        path.unlink()
        (followed.folder / "c.yaml").write_text(text("other"))
    await followed.look(after=HOLD * 0.8)
    if how == "renamed over":
        (followed.folder / ".new").write_text(text(x=2))
        (followed.folder / ".new").rename(path)
    elif how == "moved to another file":
        pass
    else:
        path.write_text(text(x=2))
    await followed.look()
    assert followed.uid("r") == uid
    assert followed.rules()["r"]["enabled"] is False
    await followed.look(after=HOLD * 2)
    assert followed.uid("r") == uid


async def test_a_folder_that_is_away_for_a_moment_takes_nothing_along(followed: Followed) -> None:
    inside = followed.folder / "inside"
    inside.mkdir()
    (inside / "a.yaml").write_text(text())
    followed.folder = inside
    followed.begin()
    uid = followed.uid("r")
    inside.rename(inside.with_name("elsewhere"))
    await followed.look(after=HOLD * 10)
    assert "is away" in str(followed.said[-1])
    inside.with_name("elsewhere").rename(inside)
    await followed.look()
    assert followed.uid("r") == uid


async def test_one_object_that_cannot_be_stored_keeps_no_other_from_it(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_all = followed.store.apply_all

    def fails(bodies: Any, **options: Any) -> Any:
        bodies = list(bodies)
        if any(body["metadata"]["name"] == "bad" for _, body in bodies):
            raise sqlite3.IntegrityError("NOT NULL constraint failed: objects.name")
        return apply_all(bodies, **options)

    monkeypatch.setattr(followed.store, "apply_all", fails)
    (followed.folder / "a.yaml").write_text(text("one") + "---\n" + text("bad") + "---\n" + text("two"))
    await followed.look()
    assert set(followed.rules()) == {"one", "two"}
    [problem] = followed.said
    assert "a.yaml:9: Rule bad cannot be stored" in str(problem)


async def test_nothing_that_goes_wrong_in_reading_ends_the_following(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    with monkeypatch.context() as patched:
        patched.setattr("attune_local.admission.checks.judge", fails)
        (followed.folder / "a.yaml").write_text(text("one", x=77))
        await followed.look()
    assert "please report" in str(followed.said[0])
    (followed.folder / "b.yaml").write_text(text("two"))
    await followed.look()
    assert "two" in followed.rules()


async def test_subscribers_that_fail_keep_no_other_from_hearing() -> None:
    store = ObjectStore()
    heard: list[str] = []

    def fails(*_: object) -> None:
        raise ValueError("not mine")

    store.subscribe(fails)
    store.subscribe(lambda kind, event, body: heard.append(body["metadata"]["name"]))
    store.create(RULE, {"metadata": {"name": "r", "namespace": "default"}, "spec": {}}, manager="x")
    assert "r" in heard


def test_who_holds_a_file_open_for_writing_is_seen(tmp_path: Path) -> None:
    written, read, closed = (tmp_path / name for name in ("written", "read", "closed"))
    for path in (written, read, closed):
        path.write_text("x")
    opened = f"a = open({str(written)!r}, 'a'); b = open({str(read)!r})"
    program = f"import sys; {opened}; print('ready', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    expected = {written} if sys.platform == "linux" else set()
    assert being_written([written, read, closed, tmp_path / "absent"]) == expected
    process.communicate("", timeout=120)
    assert being_written([written, read, closed]) == set()


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
    [problem] = followed.said
    assert str(problem).partition(" ")[2].startswith("spec.wrong: unknown field; expected one of: ")


async def test_of_two_files_with_the_same_object_the_first_holds(followed: Followed) -> None:
    (followed.folder / "a.yaml").write_text(text(x=1))
    (followed.folder / "b.yaml").write_text(text(x=2))
    await followed.look()
    assert followed.rules()["r"]["trigger"]["parameters"] == {"x": 1}
    [problem] = followed.said
    assert "already, which holds" in problem.message


async def test_a_change_by_command_holds_until_that_field_changes_in_its_file(followed: Followed) -> None:
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
    assert followed.rules()["r"]["enabled"] is False
    assert followed.rules()["r"]["trigger"] == {"type": "a.b", "parameters": {"x": 2}}
    (followed.folder / "a.yaml").write_text(text(x=2) + "  enabled: false\n")
    await followed.look()
    (followed.folder / "a.yaml").write_text(text(x=2) + "  enabled: true\n")
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
