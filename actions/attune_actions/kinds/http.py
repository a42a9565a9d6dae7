"""Actions of kind ``http``: one request each."""

import asyncio
import contextvars
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import msgspec
import yarl

from attune_actions.carrying import Task, expectation
from attune_actions.kinds.request import Request, RequestError, build, redirected, secret_references
from attune_actions.limits import Circuits
from attune_actions.masking import Masks
from attune_actions.secrets import SecretError, Secrets
from attune_actions.settling import Outcome, excerpt, of_status
from attune_contract import __version__
from attune_contract.actions import RunReason
from attune_kit.actions.plan import EVENT, RESPONSE
from attune_kit.addresses import AddressRules
from attune_kit.cel.evaluator import Evaluator, Program
from attune_kit.cel.library import EvaluationError
from attune_kit.guarded_socket import guarded

_AGENT: Final = f"attune-actions/{__version__}"
#: Bytes of an answer that are read; the rest is not.
_MOST_READ: Final = 1024 * 1024
#: Seconds to connect; the action's own timeout bounds the whole.
_CONNECT: Final = 10.0

#: What refused an address during this attempt.
_refused: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("refused", default=None)


class Http:
    """Sends requests.

    Args:
        addresses: which may be connected to.
        secrets: reads Secrets as a Rule's ServiceAccount.
        evaluator: for ``success``.
        circuits: of the targets.
        now: the time.
        monotonic: seconds, for circuits.
    """

    def __init__(
        self,
        *,
        addresses: AddressRules,
        secrets: Secrets,
        evaluator: Evaluator,
        circuits: Circuits,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._addresses = addresses
        self._secrets = secrets
        self._evaluator = evaluator
        self._circuits = circuits
        self._now = now
        self._monotonic = monotonic
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, task: Task) -> Outcome:
        """Make an attempt.

        Raises:
            TimeoutError: the action's timeout passed, and not because of the target.
        """
        http = task.step.request
        deadline = asyncio.get_running_loop().time() + task.policy.timeout
        try:
            secrets = await self._secret_headers(task, http, deadline)
            masks = Masks(secrets.values())
            request = build(http, run=task.run, event=task.event, secrets=secrets, agent=_AGENT, trace=task.trace)
        except SecretError as error:
            return Outcome(reason=error.reason, again=error.again, message=str(error))
        except (RequestError, UnicodeEncodeError) as error:
            return Outcome(reason=RunReason.INVALID_EXPRESSION, message=f"the request cannot be sent: {error}")
        shown = masks.hide(request.shown())
        wait = self._circuits.closed_for(request.target, now=self._monotonic(), patience=task.policy.timeout)
        if wait > 0:
            text = f"{request.target} did not answer lately; it is tried again in {wait:.1f} s"
            return Outcome(
                reason=RunReason.CIRCUIT_OPEN, again=True, refused=True, not_before=wait, message=text, request=shown
            )
        outcome = await self._send(task, request, masks, deadline)
        return msgspec.structs.replace(outcome, request=shown)

    async def _secret_headers(self, task: Task, http: Mapping[str, Any], deadline: float) -> dict[str, str]:
        references = secret_references(http)
        if not references:
            return {}
        async with asyncio.timeout_at(deadline):
            return {header: await self._secrets.read(task.plan.rule, name, key) for header, name, key in references}

    async def _send(self, task: Task, request: Request, masks: Masks, deadline: float) -> Outcome:
        refused: list[str] = []
        token = _refused.set(refused)
        target, hops = request.target, 0
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    async with self._opened().request(
                        request.method,
                        yarl.URL(request.url, encoded=request.url.isascii()),  # as it is: "%40" stays what it is
                        data=request.body or None,
                        headers=request.headers,
                        allow_redirects=False,
                    ) as answer:
                        onward = redirected(request, answer.status, answer.headers.get("Location"), hops=hops)
                        if onward is None:
                            body, whole = await _read(answer)
                            break
                        request, hops = onward, hops + 1
        except TimeoutError:
            self._circuits.failed(target, now=self._monotonic())
            text = f"no answer within {task.policy.timeout:g} s"
            return Outcome(reason=RunReason.TIMED_OUT, again=True, message=text)
        except RequestError as error:
            return Outcome(reason=RunReason.TARGET_REFUSED, message=masks.hide(str(error)))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if refused:
                return Outcome(reason=RunReason.ADDRESS_NOT_ALLOWED, message=refused[0])
            if isinstance(error, aiohttp.InvalidURL | ValueError) and not isinstance(error, OSError):
                return Outcome(reason=RunReason.INVALID_EXPRESSION, message="the url cannot be read")
            self._circuits.failed(target, now=self._monotonic())
            text = masks.hide(f"{type(error).__name__}: {error}")
            return Outcome(reason=RunReason.TARGET_UNREACHABLE, again=True, message=text)
        finally:
            _refused.reset(token)
        if answer.status in (502, 503, 504):
            self._circuits.failed(target, now=self._monotonic())
        else:
            self._circuits.answered(target)
        return await self._judged(task, answer, body, masks, deadline, whole=whole)

    async def _judged(
        self, task: Task, answer: aiohttp.ClientResponse, body: bytes, masks: Masks, deadline: float, *, whole: bool
    ) -> Outcome:
        text = "" if not body else masks.hide(body[:8192].decode("utf-8", "replace"))
        shown = excerpt(text) if whole else excerpt(text[:900] + " … (longer than is read)")
        by_status = of_status(answer.status, retry_after=answer.headers.get("Retry-After"), now=self._now())
        success = expectation(task.step.action, "success")
        if success is None:
            return msgspec.structs.replace(by_status, answer=shown)
        variables = {
            EVENT: task.plan.event_variable(task.event),
            RESPONSE: msgspec.json.encode(
                {
                    "status": answer.status,
                    "headers": {name.lower(): value for name, value in answer.headers.items()},
                    "body": _decoded(body) if whole else "",
                }
            ),
        }
        program = Program((EVENT, RESPONSE), ((success, True),))
        try:
            async with asyncio.timeout_at(deadline):
                (result,) = await self._evaluator.evaluate(task.run.rule_uid, program, variables)
        except EvaluationError as error:
            result = error
        if result is True:
            return Outcome(status=answer.status, answer=shown)
        if isinstance(result, EvaluationError):
            message = masks.hide(f"success cannot be evaluated: {result}")
        else:
            message = f"success is false for the answer {answer.status}: {success}"
        again = by_status.again or 200 <= answer.status <= 299
        return Outcome(
            reason=RunReason.TARGET_REFUSED,
            again=again,
            status=answer.status,
            message=message,
            answer=shown,
            not_before=by_status.not_before,
        )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                socket_factory=guarded(self._addresses, on_refused=_note_refused),
                ttl_dns_cache=5,
                keepalive_timeout=30,
                happy_eyeballs_delay=None,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("Accept", "Content-Type"),
                max_line_size=16_384,
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _read(answer: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """As much of the body as is read, and whether that is the whole. A longer one ends its connection."""
    found = bytearray()
    async for chunk in answer.content.iter_any():
        found += chunk
        if len(found) > _MOST_READ:
            answer.close()
            return bytes(found[:_MOST_READ]), False
    return bytes(found), True


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return body.decode("utf-8", "replace")


def _note_refused(why: str) -> None:
    refused = _refused.get()
    if refused is not None:
        refused.append(why)
