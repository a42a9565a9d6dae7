"""Waiting in the event loop for a condition, never for a length of time."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool], *, within: float = 10.0, every: float = 0.01) -> None:
    """Return when ``condition`` holds.

    Args:
        condition: looked at again and again; must not block.
        within: seconds after which to give up.
        every: seconds between two looks.

    Raises:
        TimeoutError: it did not come to hold in time.
    """
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - conditions of others, that set no event
            await asyncio.sleep(every)


async def until_answered(question: Callable[[], Awaitable[bool]], *, within: float = 30.0, every: float = 0.05) -> None:
    """Return when ``question`` is answered with yes, by another process for example.

    Args:
        question: asked again and again.
        within: seconds after which to give up.
        every: seconds between two questions.

    Raises:
        TimeoutError: it was not in time.
    """
    async with asyncio.timeout(within):
        while not await question():  # noqa: ASYNC110 - another process sets no event here
            await asyncio.sleep(every)
