"""Secrets of the operator's own, in its namespace: how they are read, written and checked again."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from attune_contract import names
from attune_operator.resources.kinds import SECRET, Object
from attune_operator.runtime import metrics
from attune_operator.runtime.client import Client, ClusterError

LABELS: Final = {names.MANAGED_BY_LABEL: names.MANAGED_BY, "app.kubernetes.io/part-of": "attune"}


def content(secret: Object, key: str) -> str:
    """The text under a key; empty if there is none, or it is damaged."""
    try:
        return base64.b64decode((secret.get("data") or {}).get(key, ""), validate=True).decode()
    except ValueError:
        return ""


async def write(
    client: Client, namespace: str, name: str, texts: Mapping[str, str], found: Object | None, *, kind: str = "Opaque"
) -> None:
    """Create a Secret, or replace what is in it.

    It is written with its ``resourceVersion``: of two operators that write one at once, one gets 409 and reads it again.

    Args:
        client: to Kubernetes.
        namespace: of the Secret.
        name: its name.
        texts: the texts by their keys.
        found: the Secret as it was read; None when there is none.
        kind: its type when it is created.

    Raises:
        ClusterError: Kubernetes could not be reached or refused.
    """
    data = {key: base64.b64encode(text.encode()).decode("ascii") for key, text in texts.items()}
    if found is None:
        metadata = {"name": name, "namespace": namespace, "labels": LABELS}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": data}
        await client.create(SECRET, body)
    else:
        metadata = {**found["metadata"], "labels": {**(found["metadata"].get("labels") or {}), **LABELS}}
        await client.replace(SECRET, {**found, "metadata": metadata, "data": data})
    metrics.WRITES.labels("Secret", name.removeprefix("attune-")).inc()


async def keep(
    ensure: Callable[[], Awaitable[Any]], nudged: asyncio.Event, *, interval: float, log: Any, failed: str
) -> None:
    """Call ``ensure`` now and then until cancelled.

    Args:
        ensure: what is called.
        nudged: set when it should be called soon.
        interval: seconds between two calls otherwise.
        log: where a failure is logged.
        failed: the event that is logged then.
    """
    while True:
        try:
            async with asyncio.timeout(interval):
                await nudged.wait()
        except TimeoutError:
            pass
        nudged.clear()
        try:
            await ensure()
        except ClusterError as error:
            log.warning(failed, error=str(error))
