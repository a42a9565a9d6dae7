"""The files sensor on a real file system."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from support.eventually import until
from support.harness_events import payloads

from attune_files.__main__ import handler
from attune_sensor import AckState, Rule
from attune_sensor.testing import FakeApi, SensorHarness

TYPE = "core.filescomplete"


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def sensor(folder: Path, *, api: FakeApi | None = None, **more: Any) -> SensorHarness:
    config = {"folders": {"default": {"path": str(folder), "scanEvery": "1h", **more}}}
    return SensorHarness(handler, trigger_types=[TYPE], config=config, api=api)


async def active(harness: SensorHarness, **parameters: Any) -> Rule:
    made = harness.apply(TYPE, {"settle": "100ms", **parameters})
    await harness.wait_for(made, AckState.ACTIVE)
    return made


def put_aside(folder: Path) -> Path:
    return folder.rename(folder.with_name("aside"))


def put(path: Path, content: bytes = b"x", *, at: int = 1_800_000_000) -> None:
    """As a careful program does: written under another name first."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(content)
    os.utime(partial, (at, at))
    partial.rename(path)


async def test_a_file_becomes_an_event_with_its_content_and_digest(inbox: Path) -> None:
    put(inbox / "old.json")
    async with sensor(inbox) as harness:
        made = await active(harness, content="inline", digest=True)
        put(inbox / "new.json", b'{"price": 7}')
        event = await harness.next_event()
        assert event.payload == {
            "folder": "default",
            "path": "new.json",
            "size": 12,
            "modified": "2027-01-15T08:00:00Z",
            "digest": "sha256:" + hashlib.sha256(b'{"price": 7}').hexdigest(),
            "encoding": "json",
            "body": {"price": 7},
            "rule": made.ref,
        }
        assert event.occurred_at.isoformat() == "2027-01-15T08:00:00+00:00"


async def test_files_come_oldest_first_and_once_also_over_a_restart(inbox: Path) -> None:
    api = FakeApi()
    for number in (2, 1):
        put(inbox / f"{number}.csv", at=1_800_000_000 + number)
    async with sensor(inbox, api=api) as harness:
        await active(harness, first="report")
        assert [each["path"] for each in await payloads(harness, 2)] == ["1.csv", "2.csv"]
        await until(lambda: len(api.events) == 2)
    put(inbox / "3.csv")
    put(inbox / "1.csv", b"another version")
    async with sensor(inbox, api=api) as harness:
        await active(harness, first="report")
        assert sorted(each["path"] for each in await payloads(harness, 2)) == ["1.csv", "3.csv"]
        put(inbox / "4.csv")
        assert [each["path"] for each in await payloads(harness, 1)] == ["4.csv"]
    assert len(api.events) == 5


async def test_a_file_that_is_written_is_waited_for(inbox: Path) -> None:
    async with sensor(inbox) as harness:
        await active(harness, settle="1s", content="inline")
        with (inbox / "slow.txt").open("wb", buffering=0) as slow:
            for part in range(20):
                slow.write(b"%d " % part)
                put(inbox / f"tick-{part}.tmp")
                await until(lambda: True)
        [event] = await payloads(harness, 1)
        assert event["body"] == " ".join(map(str, range(20))) + " "


async def test_what_is_no_file_of_the_folder_is_passed_by(inbox: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    put(tmp_path / "secret" / "key.csv")
    async with sensor(inbox) as harness:
        await active(harness, patterns=["*.csv", "in/**/*.csv"])
        (inbox / "link.csv").symlink_to(tmp_path / "secret" / "key.csv")
        (inbox / "in").symlink_to(tmp_path / "secret")
        os.mkfifo(inbox / "pipe.csv")
        for name in (".hidden.csv", "x.csv.tmp", "other.txt"):
            (inbox / name).write_bytes(b"x")
        put(inbox / "last.csv")
        assert [each["path"] for each in await payloads(harness, 1)] == ["last.csv"]


async def test_folders_below_and_marker_files(inbox: Path) -> None:
    async with sensor(inbox) as harness:
        await active(harness, patterns=["**/*.csv"], marker=".done")
        put(inbox / "a" / "1.csv")
        put(inbox / "a" / "2.csv")
        put(inbox / "a" / "2.csv.done", b"")
        assert [each["path"] for each in await payloads(harness, 1)] == ["a/2.csv"]
        put(inbox / "a" / "1.csv.done", b"")
        assert [each["path"] for each in await payloads(harness, 1)] == ["a/1.csv"]


async def test_without_notifications_the_folder_is_looked_at_again_and_again(inbox: Path) -> None:
    async with sensor(inbox, notified=False, scanEvery="100ms") as harness:
        await active(harness)
        put(inbox / "a.csv")
        assert [each["path"] for each in await payloads(harness, 1)] == ["a.csv"]


async def test_large_and_odd_files(inbox: Path) -> None:
    async with sensor(inbox) as harness:
        await active(harness, content="inline", first="report")
        put(inbox / "1", b"x" * 800_000, at=1)
        put(inbox / "2", b"\xff\x00", at=2_000_000_000)
        found = {each["path"]: each for each in await payloads(harness, 2)}
        assert found["1"]["truncated"]
        assert "modified" not in found["1"]
        assert (found["2"]["encoding"], found["2"]["body"]) == ("base64", "/wA=")
        put(inbox / os.fsdecode(b"\xff"), b"")
        [odd] = await payloads(harness, 1)
        assert (odd["path"], odd["pathBase64"], odd["encoding"]) == ("\ufffd", "/w==", "none")


async def test_a_folder_that_is_not_there_is_told_and_waited_for(inbox: Path) -> None:
    aside = put_aside(inbox)
    async with sensor(inbox) as harness:
        made = harness.apply(TYPE, {"settle": "0s", "first": "report"})
        assert "No such file" in await harness.wait_for(made, AckState.FAILING)
        aside.rename(inbox)
        await harness.wait_for(made, AckState.ACTIVE)


async def test_what_cannot_be_asked_for_is_rejected(inbox: Path) -> None:
    async with sensor(inbox) as harness:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"folder": "other"}, "no folder 'other'"),
            ({"patterns": ["../*"]}, "is not like"),
            ({"patterns": ["/etc/*"]}, "is not like"),
            ({"patterns": ["**/**/**/**/x"]}, "more than 3"),
            ({"settle": "2h"}, "at most"),
        ]
        for parameters, complaint in cases:
            made = harness.apply(TYPE, parameters)
            assert complaint in await harness.wait_for(made, AckState.REJECTED)
