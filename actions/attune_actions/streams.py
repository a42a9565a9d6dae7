"""The streams of runs, which this program creates where they are missing. Existing ones are left as they are."""

from typing import Any

import structlog
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from attune_contract.actions import ALL_QUEUED_RUNS, ALL_RUNS, RUN_QUEUE_STREAM, RUNS_STREAM
from attune_kit.nats.streams import raise_replicas

_log = structlog.stdlib.get_logger(__name__)


def runs_stream(*, replicas: int, max_bytes: int) -> StreamConfig:
    """``ATTUNE_RUNS``: what became of runs, until the API has stored it. A full one takes no more: the runner waits."""
    return StreamConfig(
        name=RUNS_STREAM,
        description="What became of runs, until the API has stored it",
        subjects=[ALL_RUNS],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_bytes=max_bytes,
        num_replicas=replicas,
        duplicate_window=120,
    )


def run_queue_stream(*, replicas: int, max_bytes: int) -> StreamConfig:
    """``ATTUNE_RUN_QUEUE``: the runs that wait, one message for each: a newer one takes the place of the last."""
    return StreamConfig(
        name=RUN_QUEUE_STREAM,
        description="Runs that wait for their next attempt, or are under way for longer than a second",
        subjects=[ALL_QUEUED_RUNS],
        retention=RetentionPolicy.WORK_QUEUE,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_bytes=max_bytes,
        max_msgs_per_subject=1,
        num_replicas=replicas,
        allow_direct=True,
    )


async def ensure_streams(jetstream: Any, *, replicas: int, max_bytes: int) -> None:
    """Create the streams that are missing, and have those stored by as many servers as wanted.

    Raises:
        nats.errors.Error: the server did not answer or refused.
    """
    for config in (
        runs_stream(replicas=replicas, max_bytes=max_bytes),
        run_queue_stream(replicas=replicas, max_bytes=max_bytes),
    ):
        try:
            info = await jetstream.stream_info(config.name)
        except NotFoundError:
            await jetstream.add_stream(config)
            _log.info("stream_created", stream=config.name)
        else:
            await raise_replicas(jetstream, info, replicas=replicas)
