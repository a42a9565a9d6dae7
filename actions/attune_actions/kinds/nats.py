"""Actions of kind ``nats``: one message each, to a server that the action names."""

import asyncio
import contextlib
import hashlib
import re
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import nats.errors
from nats.js.errors import APIError

from attune_actions.carrying import Task
from attune_actions.kinds.request import trace_headers
from attune_actions.masking import Masks
from attune_actions.secrets import SecretError, Secrets
from attune_actions.settling import Outcome, excerpt
from attune_contract.actions import RunReason
from attune_contract.tracing import NO_TRACE, TRACEPARENT, Trace
from attune_kit.addresses import AddressRules
from attune_kit.nats.connection import NatsConnection, NatsEndpoint, NatsUnavailableError, open_connection

#: Connections that are kept, and for how many seconds without use.
_KEPT: Final = 32
_IDLE: Final = 60.0
_SUBJECT: Final = re.compile(r"[^\s.*>\x00-\x1f\x7f]+(\.[^\s.*>\x00-\x1f\x7f]+)*")
_HEADER: Final = re.compile(r"[!-9;-~]{1,128}")
_BAD_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class MessageError(ValueError):
    """The action, with its results filled in, is no message that can be sent."""


@dataclass(slots=True)
class _Kept:
    connection: NatsConnection
    stack: contextlib.AsyncExitStack
    used: float


def message_of(
    nats_: Mapping[str, Any], event: bytes, run_id: str, *, trace: Trace = NO_TRACE
) -> tuple[str, bytes, dict[str, str]]:
    """Subject, body and headers of an action's message; ``trace`` unless the action has such headers itself. Pure.

    Raises:
        MessageError: it is none.
    """
    subject = nats_["subject"]
    if not isinstance(subject, str) or len(subject) > 1024 or not _SUBJECT.fullmatch(subject):
        raise MessageError("the subject has a blank, a wildcard or an empty part in it")
    if subject.startswith("$"):
        raise MessageError("the subject begins with $: these belong to the server")
    given = {name.lower() for name in nats_.get("headers") or ()}
    headers = {} if TRACEPARENT in given else trace_headers(trace)
    for name, value in (nats_.get("headers") or {}).items():
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if not _HEADER.fullmatch(name) or name.lower().startswith("nats-"):
            raise MessageError(f"{name[:80]!r} is no name of a header, or one of NATS's own")
        if _BAD_VALUE.search(shown):
            raise MessageError(f"the value of the header {name} has a line break or a control character in it")
        headers[name] = shown
    headers["Nats-Msg-Id"] = run_id
    body = msgspec.json.encode(nats_["body"]) if "body" in nats_ else event
    return subject, body, headers


class Nats:
    """Publishes messages.

    Args:
        addresses: which may be connected to.
        secrets: reads credentials as a Rule's ServiceAccount.
        monotonic: seconds.
    """

    def __init__(
        self, *, addresses: AddressRules, secrets: Secrets, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._addresses = addresses
        self._secrets = secrets
        self._monotonic = monotonic
        self._kept: dict[str, _Kept] = {}
        self._opening: dict[str, asyncio.Lock] = {}

    async def __call__(self, task: Task) -> Outcome:
        """Make an attempt."""
        request = task.step.request
        masks = Masks()
        try:
            subject, body, headers = message_of(
                request, task.plan.event_variable(task.event), str(task.run.id), trace=task.trace
            )
            url = str(request["connection"]["url"])
            credentials = await self._credentials(task, request["connection"])
            masks = Masks([credentials] if credentials else [])
            shown = masks.hide(f"{url} {subject}\n\n{body[:900].decode('utf-8', 'replace')}")
            await self._check(url)
            connection = await self._connected(url, credentials)
            if request.get("jetStream"):
                ack = await connection.jetstream.publish(subject, body, headers=headers)
                return Outcome(result={"stream": ack.stream, "sequence": ack.seq}, request=shown)
            await connection.client.publish(subject, body, headers=headers)
            await connection.client.flush()
            return Outcome(request=shown)
        except SecretError as error:
            return Outcome(reason=error.reason, again=error.again, message=str(error))
        except MessageError as error:
            return Outcome(reason=RunReason.INVALID_EXPRESSION, message=f"the message cannot be sent: {error}")
        except PermissionError as error:
            return Outcome(reason=RunReason.ADDRESS_NOT_ALLOWED, message=str(error))
        except APIError as error:
            return Outcome(
                reason=RunReason.TARGET_REFUSED, again=True, message=f"JetStream refused: {error.description}"
            )
        except nats.errors.MaxPayloadError:
            return Outcome(reason=RunReason.TARGET_REFUSED, message="the message is larger than the server takes")
        except (NatsUnavailableError, nats.errors.Error, OSError) as error:
            text = masks.hide(excerpt(str(error) or type(error).__name__))
            return Outcome(reason=RunReason.TARGET_UNREACHABLE, again=True, message=text)

    async def _credentials(self, task: Task, connection: Mapping[str, Any]) -> str:
        reference = connection.get("credentialsSecret")
        if not reference:
            return ""
        return await self._secrets.read(task.plan.rule, str(reference["name"]), str(reference["key"]))

    async def _check(self, url: str) -> None:
        """Refuse a server with an address that may not be connected to.

        Raises:
            PermissionError: it has one.
            OSError: it has none.
        """
        parts = urlsplit(url)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(parts.hostname or "", parts.port or 4222, type=socket.SOCK_STREAM)
        for *_, address in found:
            why = self._addresses.refusal(str(address[0]))
            if why is not None:
                raise PermissionError(why)

    async def _connected(self, url: str, credentials: str) -> NatsConnection:
        key = f"{url} {hashlib.sha256(credentials.encode()).hexdigest()}"
        async with self._opening.setdefault(key, asyncio.Lock()):
            kept = self._kept.get(key)
            if kept is None or kept.connection.closed:
                await self._drop(key)
                kept = self._kept[key] = await self._open(url, credentials)
            kept.used = self._monotonic()
        await self._tidy(key)
        return kept.connection

    async def _open(self, url: str, credentials: str) -> _Kept:
        stack = contextlib.AsyncExitStack()
        try:
            file: Path | None = None
            if credentials:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="attune-actions-"))
                file = Path(folder) / "nats.creds"
                file.touch(mode=0o600)
                file.write_text(credentials)
            endpoint = NatsEndpoint(url=url, name="attune-actions", creds_file=file)
            connection = await stack.enter_async_context(open_connection(endpoint))
            # What was connected to, in case the name meant another address by then.
            peer = connection.client._transport._io_writer.get_extra_info("peername")
            why = self._addresses.refusal(str(peer[0])) if peer else None
            if why is not None:
                raise PermissionError(why)
        except BaseException:
            await stack.aclose()
            raise
        return _Kept(connection, stack, self._monotonic())

    async def _tidy(self, current: str) -> None:
        now = self._monotonic()
        for key, kept in sorted(self._kept.items(), key=lambda each: each[1].used):
            if key != current and (now - kept.used > _IDLE or len(self._kept) > _KEPT):
                await self._drop(key)

    async def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._opening.pop(key, None)
            await kept.stack.aclose()

    async def close(self) -> None:
        """Close the connections."""
        for key in list(self._kept):
            await self._drop(key)
