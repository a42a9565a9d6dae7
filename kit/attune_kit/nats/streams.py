"""How many servers of a NATS cluster store a stream."""

from typing import Any

import nats.js.errors
import structlog

_log = structlog.stdlib.get_logger(__name__)


async def raise_replicas(jetstream: Any, info: Any, *, replicas: int) -> None:
    """Have a stream stored by more servers if it is stored by fewer than wanted. More are left: somebody chose them.

    A server that refuses (there are too few of them) is no reason to stop using the stream: it is logged.

    Args:
        jetstream: nats-py's JetStream context.
        info: the stream's, as ``stream_info`` returns it.
        replicas: how many are wanted.

    Raises:
        nats.errors.Error: the server did not answer.
    """
    present = info.config.num_replicas or 1
    if present >= replicas:
        return
    name = info.config.name
    try:
        await jetstream.update_stream(info.config.evolve(num_replicas=replicas))
    except nats.js.errors.APIError as error:
        _log.warning("stream_not_replicated", stream=name, present=present, wanted=replicas, error=error.description)
        return
    _log.info("stream_replicated", stream=name, before=present, replicas=replicas)
