"""The AWS sensor against a real server that speaks S3."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.elasticmq_server import ElasticMq
from support.eventually import until
from support.harness_events import payloads
from support.objects_server import PRESENT, ObjectsServer

from attune_aws.__main__ import handler
from attune_sensor import AckState, Rule
from attune_sensor.testing import FakeApi, SensorHarness

pytestmark = pytest.mark.skipif(not PRESENT, reason="needs Go")

TYPE = "core.s3objects"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectsServer]:
    """A server for this module: each test has a bucket of its own."""
    with ObjectsServer(tmp_path_factory.mktemp("objects")) as server:
        yield server


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    ElasticMq.place_keys(tmp_path / "secrets")
    return tmp_path / "secrets"


def sensor(s3: ObjectsServer, secrets: Path, *, api: FakeApi | None = None) -> SensorHarness:
    return SensorHarness(
        handler,
        trigger_types=[TYPE],
        config={"servers": {"default": s3.access}},
        settings={"secrets_dir": secrets},
        api=api,
    )


async def active(harness: SensorHarness, bucket: str, **parameters: Any) -> Rule:
    rule = harness.apply(TYPE, {"bucket": bucket, "every": "1s", **parameters})
    await harness.wait_for(rule, AckState.ACTIVE)
    return rule


async def begun(harness: SensorHarness, rule: Rule) -> None:
    """The rule's place in the bucket is kept: what comes now is new."""
    await until(lambda: rule.uid in harness.api.states)


async def keys(harness: SensorHarness, number: int) -> list[str]:
    return [payload["key"] for payload in await payloads(harness, number)]


@pytest.mark.parametrize("order", ["time", "name"])
async def test_new_objects_become_events_also_those_of_while_it_was_down(
    order: str, s3: ObjectsServer, secrets: Path
) -> None:
    bucket, api = f"new-{order}", FakeApi()
    await asyncio.to_thread(s3.make, bucket)
    await asyncio.to_thread(s3.put, bucket, "in/1", "in/2", "out/1")
    async with sensor(s3, secrets, api=api) as harness:
        rule = await active(harness, bucket, prefix="in/", order=order)
        await begun(harness, rule)
        await asyncio.to_thread(s3.put, bucket, "in/3 ü+", "out/2")
        [payload] = await payloads(harness, 1)
        assert payload.pop("lastModified").endswith("Z")
        assert payload.pop("storageClass", "STANDARD") == "STANDARD"
        assert payload == {
            "server": "default",
            "bucket": bucket,
            "key": "in/3 ü+",
            "size": 7,
            "etag": "9a0364b9e99bb480dd25e1f0284c8555",
            "rule": rule.ref,
        }
    await asyncio.to_thread(s3.put, bucket, "in/4", "in/5")
    async with sensor(s3, secrets, api=api) as harness:
        await active(harness, bucket, prefix="in/", order=order)
        assert sorted(await keys(harness, 2)) == ["in/4", "in/5"]
    assert len(api.events) == 3


async def test_from_the_beginning_in_pages_and_each_once(
    s3: ObjectsServer, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attune_aws.s3_source._PAGE", 3)
    monkeypatch.setattr("attune_aws.s3_source._PAGES", 2)
    await asyncio.to_thread(s3.make, "pages")
    wanted = [f"{number:02}" for number in range(20)]
    await asyncio.to_thread(s3.put, "pages", *wanted)
    for order in ("time", "name"):
        async with sensor(s3, secrets) as harness:
            await active(harness, "pages", order=order, **{"from": "beginning"})
            assert sorted(await keys(harness, 20)) == wanted
            await asyncio.to_thread(s3.put, "pages", f"new-{order}")
            assert await keys(harness, 1) == [f"new-{order}"]
        wanted.append(f"new-{order}")
        if order == "time":
            await asyncio.to_thread(s3.delete, "pages", wanted.pop())


async def test_an_object_that_is_written_again_is_an_event_where_the_rule_says_so(
    s3: ObjectsServer, secrets: Path
) -> None:
    await asyncio.to_thread(s3.make, "changes")
    await asyncio.to_thread(s3.put, "changes", "a")
    async with sensor(s3, secrets) as harness:
        rule = await active(harness, "changes", changes=True)
        await begun(harness, rule)
        await asyncio.to_thread(s3.put, "changes", "a", body=b"other")
        [changed] = await payloads(harness, 1)
        assert (changed["key"], changed["size"]) == ("a", 5)


async def test_what_cannot_be_listed_is_said(s3: ObjectsServer, secrets: Path) -> None:
    async with sensor(s3, secrets) as harness:
        missing = harness.apply(TYPE, {"bucket": "nothing", "every": "1s"}, name="missing")
        assert "has no bucket nothing" in await harness.wait_for(missing, AckState.FAILING)
        await asyncio.to_thread(s3.make, "nothing")
        await harness.wait_for(missing, AckState.ACTIVE)


async def test_a_server_that_is_restarted_is_told_and_nothing_is_lost(s3: ObjectsServer, secrets: Path) -> None:
    await asyncio.to_thread(s3.make, "restarted")
    async with sensor(s3, secrets) as harness:
        rule = await active(harness, "restarted")
        await begun(harness, rule)
        await asyncio.to_thread(s3.put, "restarted", "a")
        s3.kill()
        assert f"127.0.0.1:{s3.port}" in await harness.wait_for(rule, AckState.FAILING)
        await asyncio.to_thread(s3.start)
        assert await keys(harness, 1) == ["a"]
