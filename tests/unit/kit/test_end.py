"""A task is ended even when something under it swallows cancellations, as nats-py does while it flushes."""

import asyncio

import pytest

from attune_kit.supervisor import end


async def swallows(times: int) -> None:
    """Go on for ever, but for cancellations after the first ``times``."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if times == 0:
                raise
            times -= 1


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_it_ends_however_many_cancellations_are_swallowed(times: int) -> None:
    task = asyncio.create_task(swallows(times))
    await asyncio.sleep(0)
    async with asyncio.timeout(150):
        await end(task, patience=0.01)
    assert task.cancelled()


async def test_what_cleans_up_in_time_is_not_disturbed() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()
    cleaned: list[str] = []

    async def careful() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            begun.set()
            await may_end.wait()
            cleaned.append("all of it")

    task = asyncio.create_task(careful())
    await asyncio.sleep(0)
    ending = asyncio.create_task(end(task, patience=5))
    await begun.wait()
    may_end.set()
    await ending
    assert cleaned == ["all of it"]


async def test_what_failed_or_ended_already_is_no_error() -> None:
    async def fails() -> None:
        raise RuntimeError("on its own")

    failed, done = asyncio.create_task(fails()), asyncio.create_task(asyncio.sleep(0))
    await asyncio.wait({failed, done})
    await end(failed, done)
