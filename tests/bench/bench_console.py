"""The console with 10,000 Rules in a real kube-apiserver and five million events: how soon a page can be used, what it costs.

The bounds are those of the console: the overview interactive within 1 s (median of 5, in the browser), a Rule's page within
500 ms, and 15 MiB more memory of the API with ten consoles open. Two Rules are looked at: one with 5,000 of the five million
events, and a busy one with half of them; the events end now, so that the chart of seven days has all of them. The ratio is
the overview to the page for signing in, which has nothing to show: what the browser and the API need for any page.

``ATTUNE_BENCH_RULES`` and ``ATTUNE_BENCH_EVENTS`` are how many there are of each.
"""

import asyncio
import os
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
from bench_event_query import EVENTS, NAMESPACES, STEP, fill_sqlite
from bench_event_query import RULES as WITH_EVENTS
from playwright.async_api import Page, async_playwright
from support.api_process import ADMIN_TOKEN, ApiProcess
from support.console_browser import PATIENCE
from support.definitions import definitions_served
from support.process_memory import now_mib

from attune_api.storage.migrate import upgrade
from attune_api.storage.opening import open_database
from attune_cluster.apiserver import ApiServer
from attune_contract.names import API_VERSION
from attune_kit.kubernetes.access import load
from attune_kit.kubernetes.client import KubernetesClient

RULES = int(os.environ.get("ATTUNE_BENCH_RULES", "10000"))
CONSOLES, LOOKS = 10, 5
#: Seconds for which ten consoles are left open.
OPEN_FOR = 20.0


def _rule(number: int) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "Rule",
        "metadata": {"name": f"rule-{number}", "namespace": f"team-{number % NAMESPACES}"},
        "spec": {"trigger": {"type": "core.intervaltimer", "parameters": {"interval": 5, "unit": "seconds"}}},
    }


def _status(number: int) -> dict[str, Any]:
    good = number % 50 != 0
    message = "The Sensor attune-system/core.timer runs the rule." if good else "The sensor has no such file."
    active = {"type": "Active", "status": str(good), "reason": "Active" if good else "Rejected", "message": message}
    accepted = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "A Sensor serves it."}
    conditions = [
        {**each, "lastTransitionTime": "2026-11-28T02:00:00Z", "observedGeneration": 1}
        for each in (accepted, active, {**active, "type": "Ready"})
    ]
    times = {"lastEventTime": "2026-11-28T02:00:05Z", "nextTime": "2026-11-28T02:00:10Z"}
    sensor = "attune-system/core.timer"
    return {"status": {"conditions": conditions, "sensor": sensor, "observedGeneration": 1, **times}}


#: The Rules that are looked at, and which has every second event.
USUAL, BUSY = 7, 8


def body_of(uids: dict[int, str]) -> str:
    """Type, rule and sensor of the event with the number ``i``, as SQL."""
    turn = f"CASE WHEN i % 2 = 0 THEN {BUSY} ELSE i % {WITH_EVENTS} END"
    uid = f"CASE ({turn}) WHEN {USUAL} THEN '{uids[USUAL]}' WHEN {BUSY} THEN '{uids[BUSY]}' ELSE 'uid-' || ({turn}) END"
    rule = f"'team-' || (({turn}) % {NAMESPACES}), 'rule-' || ({turn})"
    return f"'core.intervaltimer', {uid}, {rule}, 'attune-system/core.timer'"


async def fill_cluster(server: ApiServer) -> dict[int, str]:
    """Make the Rules and their statuses; returns the uids of those that are looked at, by their numbers."""
    client = KubernetesClient(load([server.kubeconfig], context=None), user_agent="bench", connections=16, timeout=60)
    rules = f"/apis/{API_VERSION}/namespaces/{{}}/rules"
    turn = asyncio.Semaphore(16)

    async def make(number: int) -> None:
        body, path = _rule(number), rules.format(f"team-{number % NAMESPACES}")
        async with turn:
            await client.request("POST", path, body=body)
            await client.request(
                "PATCH",
                f"{path}/rule-{number}/status",
                body=_status(number),
                content_type="application/merge-patch+json",
            )

    try:
        for number in range(NAMESPACES):
            await client.request("POST", "/api/v1/namespaces", body={"metadata": {"name": f"team-{number}"}})
        await asyncio.gather(*(make(number) for number in range(RULES)))
        found = {}
        for number in (USUAL, BUSY):
            path = f"{rules.format(f'team-{number % NAMESPACES}')}/rule-{number}"
            found[number] = str(msgspec.json.decode(await client.request("GET", path))["metadata"]["uid"])
        return found
    finally:
        await client.close()


async def _sign_in(page: Page, url: str) -> None:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, trust_env=False) as client:
        answer = await client.post(f"{url}/console/codes", timeout=60)
    await page.goto(f"{url}/console/sign-in#code={answer.json()['data']['code']}")
    await page.wait_for_url("**/console/")


async def _interactive(page: Page, url: str, there: str) -> float:
    """Milliseconds from the click to a page whose scripts have run, with what is looked for in it."""
    await page.goto(url)
    await page.locator(there).first.wait_for(state="attached")
    timing = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    return float(await page.evaluate(timing))


async def _look_at_rule(page: Page, where: str) -> dict[str, float]:
    """Milliseconds until a Rule's page can be used, until its chart of an hour is there as well, and for one of seven days."""
    found = {"": await _interactive(page, where, "#tail-items .event")}
    begun = time.monotonic()
    await page.locator("#chart figure").wait_for()
    found["_chart"] = (time.monotonic() - begun) * 1000
    async with page.expect_response(lambda answer: "span=7d" in answer.url) as answer:
        begun = time.monotonic()
        await page.get_by_role("button", name="7d").click()
    await (await answer.value).finished()
    found["_chart_7d"] = (time.monotonic() - begun) * 1000
    return found


async def run() -> dict[str, object]:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        database = directory / "db" / "attune.db"
        database.parent.mkdir()
        opened = open_database(f"sqlite:///{database}")
        await upgrade(opened)
        await opened.close()
        with ApiServer(directory / "kubernetes") as server:
            definitions_served(server.api())
            uids = await fill_cluster(server)
            start = datetime.now(UTC) - timedelta(seconds=EVENTS * STEP)
            await asyncio.to_thread(fill_sqlite, database, start=start, body=body_of(uids))
            token = directory / "token"
            token.write_text(_account(server))
            settings = {
                "console": "true",
                "console_kubernetes_url": server.server,
                "console_kubernetes_token_file": str(token),
                "kubernetes_ca_file": str(server.authority),
            }
            with ApiProcess(directory / "api", database_url=f"sqlite:///{database}", **settings) as api:
                return await _measure(api)


def _account(server: ApiServer) -> str:
    """The token of an account that may do everything, in place of the admin."""
    request = server.api().request
    request("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "bench"}})
    body = {
        "metadata": {"name": "bench"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "bench"}],
    }
    request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", body)
    wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 36_000}}
    return str(request("POST", "/api/v1/namespaces/default/serviceaccounts/bench/token", wanted)["status"]["token"])


async def _measure(api: ApiProcess) -> dict[str, object]:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with httpx.AsyncClient(base_url=api.url, headers=headers, trust_env=False, timeout=60) as reader:
        for _ in range(50):  # what the API needs for its readers anyway
            await reader.get("/api/v1/events", params={"limit": "100"})
    before = now_mib(api.process.pid)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = await browser.new_context()
        context.set_default_timeout(PATIENCE)
        page = await context.new_page()
        begun = time.monotonic()
        await _sign_in(page, api.url)
        await page.get_by_text(f"Page 1 of {RULES // 50}").wait_for()
        first = time.monotonic() - begun
        overview, search = [], []
        rules: dict[str, list[float]] = {}
        for _ in range(LOOKS):
            overview.append(await _interactive(page, f"{api.url}/console/", "#r-team-0-rule-0"))
            begun = time.monotonic()
            await page.locator("#q").fill("rule-4242")
            await page.locator("#r-team-2-rule-4242").wait_for()
            search.append((time.monotonic() - begun) * 1000)
            for name, number in (("rule", USUAL), ("busy_rule", BUSY)):
                where = f"{api.url}/console/rules/team-{number}/rule-{number}"
                for figure, took in (await _look_at_rule(page, where)).items():
                    rules.setdefault(f"{name}{figure}_ms", []).append(took)
        other = await browser.new_context()
        empty = await other.new_page()
        reference = [await _interactive(empty, f"{api.url}/console/sign-in", "#token") for _ in range(LOOKS)]
        alone = now_mib(api.process.pid)
        pages = []
        for number in range(CONSOLES):
            opened = await (await browser.new_context()).new_page()
            await _sign_in(opened, api.url)
            if number % 2:
                await opened.goto(f"{api.url}/console/rules/team-{USUAL}/rule-{USUAL}")
            pages.append(opened)
        await asyncio.sleep(OPEN_FOR)
        ten = now_mib(api.process.pid)
        await browser.close()
    median = statistics.median
    return {
        "rules": RULES,
        "events": EVENTS,
        "first_look_s": round(first, 2),
        "overview_ms": round(median(overview)),
        "search_ms": round(median(search)),
        **{name: round(median(took)) for name, took in rules.items()},
        "sign_in_page_ms": round(median(reference)),
        "memory_mib": {"before": round(before, 1), "one": round(alone, 1), "ten": round(ten, 1)},
        "ratio": round(median(overview) / median(reference), 2),
    }
