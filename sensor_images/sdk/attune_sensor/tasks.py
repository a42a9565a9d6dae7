"""Ending tasks for certain."""

import asyncio
from typing import Any, Final

#: Seconds that a cancelled task gets to clean up before it is cancelled again.
_PATIENCE: Final = 1.0


async def end(*tasks: "asyncio.Task[Any]", patience: float = _PATIENCE) -> None:
    """Cancel ``tasks`` until they have ended, however often that takes. What they raise is not told.

    Once is not enough for a task that talks to NATS: nats-py's ``_flush_pending``, which every publish, request and
    subscription goes through, swallows ``CancelledError`` (2.16), and the task goes on as if nothing had happened.
    Whoever waited for it would wait for ever, and a sensor would be killed at the end of its grace period with events
    still in memory.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=patience)
    await asyncio.gather(*tasks, return_exceptions=True)
