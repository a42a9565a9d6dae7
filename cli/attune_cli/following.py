"""Events as they come, over connections that break: each exactly once, in their order."""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attune_cli.errors import UnreachableError
from attune_cli.sse import messages
from attune_cli.targets.api import Api
from attune_cli.targets.httpx_client import httpx

#: Seconds without even a heartbeat (one comes every 15) until a connection counts as dead.
_PATIENCE: Final = 45.0
_LONGEST_PAUSE: Final = 10.0


def follow(
    connect: Callable[[], Api],
    *,
    query: Mapping[str, Any],
    after: int,
    on_notice: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    chance: Callable[[], float] = random.random,
) -> Iterator[dict[str, Any]]:
    """Events behind the seq ``after``, for ever.

    Args:
        connect: gives the API; a new connection to it each time (its pod may have been replaced).
        query: filters, as the API takes them.
        after: where to begin.
        on_notice: hears when the stream broke off, and when it goes on.
        sleep: waits so many seconds.
        chance: a random number from 0 to 1, so that many followers do not come back at once.

    Raises:
        CliError: the API refuses it. While it cannot be reached this goes on trying, unless it never could.
    """
    place, failures, heard = str(after), 0, False
    retry = 0.5
    while True:
        try:
            with connect().stream(
                "/api/v1/events/stream",
                params=query,
                headers={"Accept": "text/event-stream", "Last-Event-ID": place},
                patience=_PATIENCE,
            ) as answer:
                if failures:
                    on_notice("The stream goes on.")
                heard, failures = True, 0
                for message in messages(answer.iter_bytes()):
                    place = message.id or place
                    retry = retry if message.retry is None else message.retry / 1000
                    if message.event == "message" and message.data is not None:
                        yield json.loads(message.data)
                    elif message.event == "problem":
                        break  # why it ends: asking again either helps, or is answered with the same as an error
            problem = "the API ended it"
        except (httpx.HTTPError, UnreachableError) as error:
            if not heard:
                raise (
                    error
                    if isinstance(error, UnreachableError)
                    else UnreachableError(f"The events cannot be followed: {error or type(error).__name__}.")
                ) from None
            problem = str(error) or type(error).__name__
        if not failures:
            on_notice(f"The stream broke off ({problem.rstrip('.')}); trying again. No event is lost.")
        failures += 1
        sleep(min(_LONGEST_PAUSE, retry * 1.6 ** min(failures, 20)) * (0.5 + chance() / 2))
