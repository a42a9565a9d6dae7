"""Actions of kind ``emit``: an event for the Rules of the namespace that take it (docs/emit.md).

The event is handed to the Sensor ``core.event``, which stores one for each of these Rules under an id that comes from the run's.
So what is handed over twice, after a kill or a lost answer, is stored once.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from attune_actions.carrying import Task
from attune_actions.kinds.request import trace_headers
from attune_actions.settling import Outcome, excerpt
from attune_contract import emitted
from attune_contract.actions import Run, RunReason
from attune_contract.events import Event
from attune_kit.actions.emission import emitted_part

_TIMEOUT: Final = 30.0
_CONNECT: Final = 5.0
_CONNECTIONS: Final = 64
#: Bytes of an answer that are read.
_MOST_ANSWER: Final = 1024 * 1024
#: Seconds after which it is asked again whether an event is stored, and whether the Sensor knows the token.
_STORED: Final = 2.0
_KNOWN: Final = 10.0
#: Rules that a run's result names.
_NAMED: Final = 10
_NO_SENSOR: Final = (
    f"there is no Sensor {emitted.SENSOR_NAME} beside this runner, which takes such events; it is in packs/events"
)


_ANSWERS: Final = msgspec.json.Decoder(emitted.Answer)


def emission_of(request: Any, event: Event, run: Run) -> emitted.Emission:
    """What an action hands over. Pure.

    Args:
        request: the action's part ``emit``, with results in place of expressions.
        event: the event that it is carried out for.
        run: its run.

    Raises:
        EmissionError: it makes no event.
    """
    name, payload, hops = emitted_part(request, event)
    origin = emitted.Origin(
        name=name,
        rule=f"{run.rule_namespace}/{run.rule_name}",
        action=run.action,
        event=event.id,
        run=run.id,
        hops=hops,
    )
    return emitted.Emission(namespace=run.rule_namespace, origin=origin, payload=payload)


def outcome_of(status: int, body: bytes, *, name: str, retry_after: str = "") -> Outcome:
    """What the Sensor's answer means. Pure."""
    try:
        taken = _ANSWERS.decode(body).events
    except msgspec.MsgspecError:
        taken = ()
    if status == 200:
        result = {"name": name, "events": len(taken), "rules": [each.rule for each in taken[:_NAMED]]}
        text = "" if taken else f"no Rule of the namespace takes {name}"
        return Outcome(status=status, result=result, message=text)
    if status == 202:
        text = "the API does not answer: the event is on the Sensor's disk, and not stored yet"
        return Outcome(
            reason=RunReason.TARGET_UNREACHABLE, refused=True, not_before=_STORED, status=status, message=text
        )
    if status == 401:
        text = f"the Sensor {emitted.SENSOR_NAME} does not know the signature; its token may just have been renewed"
        return Outcome(reason=RunReason.TARGET_REFUSED, refused=True, not_before=_KNOWN, status=status, message=text)
    refused = "; ".join(f"for the Rule {each.rule}: {each.reason or each.status}" for each in taken if each.reason)
    text = excerpt(f"the Sensor {emitted.SENSOR_NAME} answered {status}: {refused or _detail(body)}")
    if status >= 500 or status == 429:
        wait = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return Outcome(reason=RunReason.TARGET_UNREACHABLE, again=True, not_before=wait, status=status, message=text)
    return Outcome(reason=RunReason.TARGET_REFUSED, status=status, message=text)


def _detail(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["detail"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return "without a reason"


class Emit:
    """Hands events to the Sensor.

    Args:
        url: where the Sensor listens.
        url_file: a file that says so, and is read for each request; under ``attune up`` ports change.
        token_file: the Sensor's token; read for each request.
        now: Unix time in seconds.
    """

    def __init__(
        self, *, url: str, url_file: Path | None, token_file: Path | None, now: Callable[[], float] = time.time
    ) -> None:
        self._url = url.rstrip("/")
        self._url_file = url_file
        self._token_file = token_file
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, task: Task) -> Outcome:
        """Make an attempt."""
        emission = emission_of(task.step.request, task.event, task.run)  # the plan has checked that there is one
        body = msgspec.json.encode(emission)
        payload = msgspec.json.encode(emission.payload)[:900].decode("utf-8", "replace")
        shown = excerpt(f"emit {emission.origin.name}\n\n{payload}")
        try:
            url, token = await asyncio.to_thread(self._target)
        except (OSError, UnicodeDecodeError):
            url = token = ""
        if not url or not token:
            return Outcome(reason=RunReason.TARGET_UNREACHABLE, again=True, message=_NO_SENSOR, request=shown)
        time_ = int(self._now())
        headers = {
            "Content-Type": "application/json",
            emitted.TIME_HEADER: str(time_),
            emitted.SIGNATURE_HEADER: emitted.signature(token, time=time_, body=body),
            **trace_headers(task.trace),
        }
        try:
            async with self._opened().post(
                url + emitted.PATH, data=body, headers=headers, allow_redirects=False
            ) as answer:
                content = await answer.read() if (answer.content_length or 0) <= _MOST_ANSWER else b""
                found = outcome_of(
                    answer.status,
                    content,
                    name=emission.origin.name,
                    retry_after=answer.headers.get("Retry-After", ""),
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            host = urlsplit(url).hostname
            text = f"the Sensor {emitted.SENSOR_NAME} does not answer at {host}: {type(error).__name__}: {error}"
            found = Outcome(reason=RunReason.TARGET_UNREACHABLE, again=True, message=excerpt(text))
        return msgspec.structs.replace(found, request=shown)

    def _target(self) -> tuple[str, str]:
        url = self._url_file.read_text().strip().rstrip("/") if self._url_file is not None else self._url
        token = self._token_file.read_text().strip() if self._token_file is not None else ""
        return url, token

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT, sock_connect=_CONNECT),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
