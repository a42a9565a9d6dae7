"""Being cancelled in spite of nats-py.

Its ``_flush_pending``, which every publish, request and subscription goes through, swallows ``CancelledError`` (2.16), and so
may ``asyncio.wait_for`` under its requests (Python 3.11): a task that is cancelled just there would go on as if nothing had
happened, and whoever waits for it would wait for ever.
"""

import asyncio
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription


def heed_cancellation() -> None:
    """Be cancelled now if somebody cancelled the current task and something swallowed it.

    Raises:
        asyncio.CancelledError: so it is.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class CancellableClient(Client):  # type: ignore[misc]
    """A client whose calls end when the task that makes them is cancelled."""

    async def publish(self, *args: Any, **kwargs: Any) -> None:
        """As in ``Client``."""
        await super().publish(*args, **kwargs)
        heed_cancellation()

    async def subscribe(self, *args: Any, **kwargs: Any) -> Subscription:
        """As in ``Client``."""
        subscription = await super().subscribe(*args, **kwargs)
        heed_cancellation()
        return subscription

    async def request(self, *args: Any, **kwargs: Any) -> Msg:
        """As in ``Client``."""
        answer = await super().request(*args, **kwargs)
        heed_cancellation()
        return answer
