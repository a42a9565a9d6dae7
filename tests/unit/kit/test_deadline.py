"""Waiting for an answer until a deadline."""

import asyncio

import pytest

from attune_kit.deadline import answer_within


async def test_an_answer_that_is_there() -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(answer.set_result, 7)
    assert await answer_within(answer, 60.0) == 7


async def test_an_answer_that_does_not_come() -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    with pytest.raises(TimeoutError):
        await answer_within(answer, 0.0)
    assert answer.done()  # who would set it sees that nobody waits


async def test_who_waits_can_be_cancelled() -> None:
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(answer_within(answer, 60.0))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert answer.cancelled()
