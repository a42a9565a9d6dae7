"""Statuses are written once each, the awaited ones first, at a bounded rate, until they succeed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.eventually import until

from attune_operator.rules.status_writer import StatusWrite, StatusWriter
from attune_operator.runtime.client import ClusterError


class Kubernetes:
    """Takes patches; ``wanted`` is what :class:`StatusWriter` renders, as in the operator."""

    def __init__(self) -> None:
        self.wanted: dict[str, int] = {}
        self.written: list[tuple[str, int]] = []
        self.failures = 0
        self.attempts = 0
        self.at_once = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def render(self, uid: str) -> StatusWrite | None:
        value = self.wanted.get(uid)
        if value is None or ("", value) == (uid, value):
            return None
        present = dict(self.written).get(uid)
        return (
            None
            if present == value
            else StatusWrite(
                namespace="default", name=uid, uid=uid, first=False, patch={"value": value}, done=lambda: None
            )
        )

    async def write(self, write: StatusWrite) -> None:
        self.attempts += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            if self.failures:
                self.failures -= 1
                raise ClusterError("too many requests", status=429)
            self.written.append((write.name, write.patch["value"]))
        finally:
            self.at_once -= 1


@contextlib.asynccontextmanager
async def running(kubernetes: Kubernetes, **options: Any) -> AsyncIterator[StatusWriter]:
    writer = StatusWriter(
        render=kubernetes.render,
        write=kubernetes.write,
        **{"rate": 1e6, "concurrency": 4, "debounce": 0.0, **options},
    )
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_many_changes_of_one_rule_are_one_write() -> None:
    kubernetes = Kubernetes()
    async with running(kubernetes, debounce=0.02) as writer:
        for value in range(10):
            kubernetes.wanted["a"] = value
            writer.submit("a", urgent=True)
        await until(lambda: len(writer) == 0)
    assert kubernetes.written == [("a", 9)]


async def test_a_change_while_the_write_is_under_way_is_written_after_it() -> None:
    kubernetes = Kubernetes()
    kubernetes.gate.clear()
    async with running(kubernetes) as writer:
        kubernetes.wanted["a"] = 1
        writer.submit("a", urgent=False)
        await until(lambda: kubernetes.at_once == 1)
        kubernetes.wanted["a"] = 2
        writer.submit("a", urgent=False)
        kubernetes.gate.set()
        await until(lambda: kubernetes.written == [("a", 1), ("a", 2)])


async def test_nothing_is_written_when_kubernetes_says_it_already() -> None:
    kubernetes = Kubernetes()
    kubernetes.wanted["a"] = 1
    kubernetes.written.append(("a", 1))
    async with running(kubernetes) as writer:
        writer.submit("a", urgent=True)
        await until(lambda: len(writer) == 0)
    assert kubernetes.attempts == 0


async def test_what_somebody_waits_for_goes_before_the_bulk_and_the_bulk_is_not_starved() -> None:
    kubernetes = Kubernetes()
    names = [f"bulk-{n}" for n in range(40)] + [f"urgent-{n}" for n in range(40)]
    kubernetes.wanted = dict.fromkeys(names, 1)
    async with running(kubernetes, concurrency=1) as writer:
        for name in names:
            writer.submit(name, urgent=name.startswith("urgent"))
        await until(lambda: len(kubernetes.written) == 80)
    order = [name for name, _ in kubernetes.written]
    first_half = order[:40]
    assert sum(name.startswith("urgent") for name in first_half) == 30
    assert sum(name.startswith("bulk") for name in first_half) == 10


async def test_failed_writes_are_tried_again_until_they_succeed_and_write_what_is_right_then() -> None:
    kubernetes = Kubernetes()
    kubernetes.failures = 2
    kubernetes.wanted["a"] = 1
    async with running(kubernetes) as writer:
        writer.submit("a", urgent=True)
        await until(lambda: kubernetes.failures == 1)
        kubernetes.wanted["a"] = 2
        writer.submit("a", urgent=True)
        await until(lambda: kubernetes.written == [("a", 2)], within=10)


async def test_no_more_calls_are_under_way_than_allowed() -> None:
    kubernetes = Kubernetes()
    kubernetes.wanted = {str(n): n for n in range(50)}
    async with running(kubernetes, concurrency=3) as writer:
        for uid in kubernetes.wanted:
            writer.submit(uid, urgent=False)
        await until(lambda: len(kubernetes.written) == 50)
    assert kubernetes.most_at_once == 3


async def test_the_rate_is_bounded() -> None:
    kubernetes = Kubernetes()
    kubernetes.wanted = {str(n): n for n in range(21)}
    loop = asyncio.get_running_loop()
    async with running(kubernetes, rate=100.0) as writer:
        began = loop.time()
        for uid in kubernetes.wanted:
            writer.submit(uid, urgent=True)
        await until(lambda: len(kubernetes.written) == 21)
    assert loop.time() - began >= 0.19


async def test_a_defect_in_one_write_does_not_end_the_others() -> None:
    kubernetes = Kubernetes()
    kubernetes.wanted = {"bad": 1, "good": 1}

    async def write(write: StatusWrite) -> None:
        if write.name == "bad":
            raise KeyError("a defect")
        await kubernetes.write(write)

    writer = StatusWriter(render=kubernetes.render, write=write, rate=1e6, concurrency=1, debounce=0.0)
    task = asyncio.create_task(writer.run())
    writer.submit("bad", urgent=True)
    writer.submit("good", urgent=True)
    await until(lambda: kubernetes.written == [("good", 1)])
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
