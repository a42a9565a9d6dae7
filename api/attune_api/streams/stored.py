"""Asking a stream for messages that are stored, in one request and without a consumer (NATS ADR-31, "Direct get batch")."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

#: Seconds for the whole answer.
_TIMEOUT: Final = 5.0
#: Subjects in one question; the server takes 1,024.
MOST_SUBJECTS: Final = 1000
#: Messages of one batch.
_BATCH: Final = 500
_END_OF_BATCH: Final = "204"
_NOTHING_FOUND: Final = "404"


class NotAnsweredError(nats.errors.Error):  # type: ignore[misc]
    """The stream did not answer, or with an error."""


async def last_messages(client: Client, *, stream: str, subjects: Sequence[str]) -> list[Msg]:
    """The last message of each of these subjects; those that have none are left out.

    Raises:
        NotAnsweredError, nats.errors.Error, OSError: the server did not answer.
    """
    found: list[Msg] = []
    for start in range(0, len(subjects), MOST_SUBJECTS):
        wanted = list(subjects[start : start + MOST_SUBJECTS])
        messages, _ = await _ask(client, stream, {"multi_last": wanted, "batch": len(wanted)})
        found += messages
    return found


async def all_messages(client: Client, *, stream: str, subject: str) -> list[Msg]:
    """Every stored message of the subjects that a filter names, in their order.

    Raises:
        NotAnsweredError, nats.errors.Error, OSError: the server did not answer.
    """
    found: list[Msg] = []
    sequence = 1
    while True:
        messages, pending = await _ask(client, stream, {"seq": sequence, "next_by_subj": subject, "batch": _BATCH})
        found += messages
        if not messages or not pending:
            return found
        sequence = int((messages[-1].headers or {})["Nats-Sequence"]) + 1


async def _ask(client: Client, stream: str, request: dict[str, Any]) -> tuple[list[Msg], int]:
    """One batch, and how many messages there are beyond it."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    found: list[Msg] = []
    try:
        async with asyncio.timeout(_TIMEOUT):
            await client.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox)
            while True:
                message = await subscription.next_msg(timeout=_TIMEOUT)
                headers = message.headers or {}
                status = headers.get("Status")
                if status == _END_OF_BATCH:
                    return found, int(headers.get("Nats-Num-Pending", 0))
                if status == _NOTHING_FOUND:
                    return found, 0
                if status is not None:
                    raise NotAnsweredError(f"{stream}: {status} {headers.get('Description', '')}".strip())
                found.append(message)
    except TimeoutError:
        raise NotAnsweredError(f"{stream} did not answer within {_TIMEOUT:.0f} s") from None
    finally:
        if client.is_connected:
            await subscription.unsubscribe()
