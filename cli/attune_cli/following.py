"""Following events over connections that break: each event exactly once, in order."""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attune_cli.errors import UnreachableError
from attune_cli.sse import messages
from attune_cli.targets.api import Api
from attune_cli.targets.httpx_client import httpx

#: Seconds without even a heartbeat (one comes every 15) after which a connection counts as dead.
_PATIENCE: Final = 45.0
_LONGEST_PAUSE: Final = 10.0


def follow(
    connect: Callable[[], Api],
    *,
    query: Mapping[str, Any],
    after: int,
    on_notice: Callable[[str], None],
    path: str = "/api/v1/events/stream",
    sleep: Callable[[float], None] = time.sleep,
    chance: Callable[[], float] = random.random,
) -> Iterator[dict[str, Any]]:
    """Yield events with a higher seq than ``after``, for ever.

    Args:
        connect: returns the API over a new connection (its pod may have been replaced).
        query: filters, as the API takes them.
        after: where to begin.
        on_notice: called when the stream breaks, and when it continues.
        path: of the stream.
        sleep: waits for that many seconds.
        chance: a random number from 0 to 1, so that many clients do not reconnect together.

    Raises:
        CliError: the API refuses the request, or could not be reached at first. Later it is retried for ever.
    """
    place, failures, heard = str(after), 0, False
    retry = 0.5
    while True:
        try:
            with connect().stream(
                path,
                params=query,
                headers={"Accept": "text/event-stream", "Last-Event-ID": place},
                patience=_PATIENCE,
            ) as answer:
                if failures:
                    on_notice("The stream continues.")
                heard, failures = True, 0
                for message in messages(answer.iter_bytes()):
                    place = message.id or place
                    retry = retry if message.retry is None else message.retry / 1000
                    if message.event == "message" and message.data is not None:
                        yield json.loads(message.data)
                    elif message.event == "problem":
                        break  # why it ends: a new request either helps, or fails with the same problem
            problem = "the API ended it"
        except (httpx.HTTPError, UnreachableError) as error:
            if not heard:
                raise (
                    error
                    if isinstance(error, UnreachableError)
                    else UnreachableError(f"Cannot follow the stream: {error or type(error).__name__}.")
                ) from None
            problem = str(error) or type(error).__name__
        if not failures:
            on_notice(f"The stream broke ({problem.rstrip('.')}); reconnecting. Nothing is lost.")
        failures += 1
        sleep(min(_LONGEST_PAUSE, retry * 1.6 ** min(failures, 20)) * (0.5 + chance() / 2))
