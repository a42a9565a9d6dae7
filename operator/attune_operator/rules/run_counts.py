"""How Rules' runs have ended, from the API (``GET /api/v1/runs/summaries``), for the Rules' statuses.

The API keeps these numbers per Rule; only Rules whose runs have changed since the last look are read. The API may be away: then
the statuses keep what they say.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import structlog

from attune_kit.outage import Outage
from attune_kit.tls import client_context
from attune_operator.rules.records import RunCounts, parse_time
from attune_operator.runtime.conditions import kubernetes_time

_log = structlog.stdlib.get_logger(__name__)

_PATH: Final = "/api/v1/runs/summaries"
_PAGE: Final = 500
_TIMEOUT: Final = 20.0
#: Seconds between two looks, with jitter.
_INTERVAL: Final = 10.0


class _Failure(msgspec.Struct):
    at: str
    action: str = ""
    state: str = ""
    reason: str = ""
    message: str = ""


class _Summary(msgspec.Struct):
    rule_uid: str
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    waiting: int = 0
    last_run_at: str | None = None
    last_success_at: str | None = None
    last_failure: _Failure | None = None


class _Page(msgspec.Struct):
    data: list[_Summary]
    next_cursor: str | None = None
    resume_cursor: str | None = None


_PAGES: Final = msgspec.json.Decoder(_Page)


class RunCountsReader:
    """Looks again and again.

    Args:
        url: the API's; empty: there is none to ask.
        token_file: bearer token, read for each request.
        ca_file: certificates (PEM) that the API's is checked against; None: the system's.
        namespaces: those that we may ask about; empty: all.
        on_counts: called with a Rule's uid and its numbers.
        interval: seconds between two looks.
        rng: for jitter.
    """

    def __init__(
        self,
        *,
        url: str,
        token_file: Path | None,
        ca_file: Path | None,
        namespaces: Sequence[str],
        on_counts: Callable[[str, RunCounts], None],
        interval: float = _INTERVAL,
        rng: random.Random | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._ca_file = ca_file
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._on_counts = on_counts
        self._interval = interval
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._cursors: dict[str | None, str] = {}

    async def run(self) -> None:
        """Look until cancelled; without a URL there is nothing to do."""
        if not self._url:
            return
        outage = Outage(log=_log, name="run_counts")
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=2, ssl=self._context()),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT, sock_connect=5),
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            while True:
                try:
                    for namespace in self._namespaces:
                        await self._look(session, namespace)
                    outage.recovered()
                except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError, ValueError) as error:
                    outage.failed(type(error).__name__, str(error)[:300] or type(error).__name__)
                await asyncio.sleep(self._interval * self._rng.uniform(0.8, 1.2))

    def _context(self) -> Any:
        return True if self._ca_file is None else client_context(self._ca_file)

    async def _look(self, session: aiohttp.ClientSession, namespace: str | None) -> None:
        token = await asyncio.to_thread(self._token_file.read_text) if self._token_file is not None else ""
        headers = {"Authorization": f"Bearer {token.strip()}"} if token else {}
        while True:
            query: dict[str, Any] = {"limit": str(_PAGE)}
            if namespace is not None:
                query["rule_namespace"] = namespace
            if cursor := self._cursors.get(namespace):
                query["cursor"] = cursor
            async with session.get(self._url + _PATH, params=query, headers=headers) as answer:
                body = await answer.read()
                if answer.status in (400, 422) and cursor:
                    del self._cursors[namespace]  # of another database: begin again
                if answer.status != 200:
                    raise ValueError(f"GET {_PATH}: {answer.status} {body[:200].decode('utf-8', 'replace')}")
            page = _PAGES.decode(body)
            for summary in page.data:
                self._on_counts(summary.rule_uid, counts_of(summary))
            if page.resume_cursor:
                self._cursors[namespace] = page.resume_cursor
            if page.next_cursor is None:
                return


def counts_of(summary: _Summary) -> RunCounts:
    """What a Rule's status says of its runs."""
    failure, succeeded = summary.last_failure, summary.last_success_at
    failing = None
    if failure is not None and (succeeded is None or parse_time(failure.at) > parse_time(succeeded)):
        again = " It is tried again." if failure.state == "Waiting" else ""
        message = f"The action {failure.action} failed at {kubernetes_time(parse_time(failure.at))}: {failure.message}"
        failing = (failure.reason or "LastRunFailed", f"{message}{again} `attune runs list --state Failed` lists runs.")
    return RunCounts(
        succeeded=summary.succeeded,
        failed=summary.failed,
        skipped=summary.skipped,
        waiting=summary.waiting,
        last_run_time=None if summary.last_run_at is None else kubernetes_time(parse_time(summary.last_run_at)),
        failing=failing,
    )
