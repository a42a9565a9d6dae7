"""The console of a real ``attune up`` in a real Chromium: what people see, click and type, and what pages must not do."""

import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from support.attune_up import ATTUNE, AttuneUp, attune_up
from support.console_browser import PATIENCE, Visit, chromium, visit
from support.eventually import eventually

from attune_contract.local import read_endpoints
from attune_local.ports import free_port

pytestmark = [pytest.mark.nats, pytest.mark.timeout(600)]

PACK = Path(__file__).parents[2] / "packs" / "core"
RULES = """apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {{name: steady, namespace: team-a}}
spec:
  trigger: {{type: core.intervaltimer, parameters: {{interval: 500, unit: milliseconds}}}}
---
apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {{name: telling, namespace: team-a}}
spec:
  trigger: {{type: core.intervaltimer, parameters: {{interval: 5, unit: seconds}}}}
  actions:
    - name: tell
      when: event.payload.rule == 'team-a/telling'
      http: {{url: "http://127.0.0.1:{port}/hook", body: {{text: "${{event.payload.rule}}"}}}}
      retry: {{attempts: 1}}
---
apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {{name: astray, namespace: team-b}}
spec:
  trigger: {{type: acme.nothing}}
"""


class _Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def target() -> int:
    """The port that the action calls; nobody listens there until a test does."""
    return free_port()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, target: int) -> Iterator[AttuneUp]:
    folder = tmp_path_factory.mktemp("console")
    shutil.copy(PACK / "core.timer.yaml", folder)
    (folder / "rules.yaml").write_text(RULES.format(port=target))
    with attune_up(folder) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def url_of(up: AttuneUp) -> str:
    endpoints = read_endpoints(up.data_dir)
    assert endpoints is not None
    return endpoints.api.url


def sign_in(window: Visit, up: AttuneUp) -> None:
    """By the link that ``attune ui`` prints."""
    done = subprocess.run([str(ATTUNE), "ui", "--no-open"], cwd=up.folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    window.page.goto(done.stdout.strip())
    window.page.wait_for_url("**/console/")
    expect(window.page.get_by_role("heading", name="Overview")).to_be_visible()


@pytest.fixture
def window(browser: Browser, up: AttuneUp) -> Iterator[Visit]:
    """Somebody who is signed in."""
    with visit(browser, url_of(up)) as opened:
        sign_in(opened, up)
        yield opened


def test_signing_in_with_a_link_or_a_token_and_out(browser: Browser, up: AttuneUp) -> None:
    with visit(browser, url_of(up)) as window:
        sign_in(window, up)
        assert "code" not in window.page.url
        window.page.get_by_role("button", name="Sign out").click()
        expect(window.page.get_by_text("You are signed out.")).to_be_visible()
        page = window.open("/events")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.get_by_label("The admin token").fill((up.data_dir / "admin.token").read_text())
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/console/events")
        assert page.evaluate("document.cookie") == ""


def test_the_overview_and_a_rule_s_page_follow_what_happens(window: Visit, up: AttuneUp) -> None:
    page = window.page
    expect(page.locator("#r-team-b-astray")).to_be_visible(timeout=PATIENCE)
    body = {
        "apiVersion": "attune.dev/v1alpha1",
        "kind": "Rule",
        "metadata": {"name": "late", "namespace": "team-b"},
        "spec": {"trigger": {"type": "core.intervaltimer", "parameters": {"interval": 1, "unit": "hours"}}},
    }
    up.kube.apply(body)
    row = page.locator("tr", has=page.locator("#r-team-b-late"))
    expect(row.get_by_text("Active", exact=True)).to_be_visible(timeout=PATIENCE)
    up.kube.delete("rule", "late", "team-b")
    expect(row).to_have_count(0, timeout=PATIENCE)
    window.open("/rules/team-a/steady")
    first = page.locator("#tail-items .event summary time").first
    before = first.text_content()
    expect(first).not_to_have_text(before or "", timeout=PATIENCE)
    expect(page.locator("#chart rect").first).to_be_attached(timeout=PATIENCE)
    expect(page.locator("#history")).to_contain_text("created", timeout=PATIENCE)
    page.locator("#tail-items summary").last.click()
    expect(page.locator("#tail-items pre").last).to_contain_text("scheduled_at")


def test_a_rule_is_switched_off_and_on(window: Visit, up: AttuneUp) -> None:
    page = window.open("/rules/team-a/steady")
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_text("The Rule is disabled.")).to_be_visible()
    expect(page.locator("#state .badge")).to_have_text("Disabled", timeout=PATIENCE)
    assert up.kube.get("rule", "steady", "team-a")["spec"]["enabled"] is False
    page.get_by_role("button", name="Enable").click()
    expect(page.locator("#state .badge")).to_have_text("Active", timeout=PATIENCE)


def test_a_rule_is_tried_and_a_failed_run_is_retried(window: Visit, target: int) -> None:
    page = window.open("/rules/team-a/telling")
    retry = "table.runs form button"

    def failed() -> bool:
        page.reload()
        return page.locator("#state .badge").inner_text().strip() == "Actions fail" and page.locator(retry).count() > 0

    eventually(failed, within=120, what="the run has failed")
    page.get_by_role("button", name="Try the stored events").click()
    expect(page.locator("#trial")).to_contain_text("Would run", timeout=PATIENCE)
    expect(page.locator("#trial")).to_contain_text("text: team-a/telling")
    page.get_by_label("A payload (JSON)").fill('{"rule": "another"}')
    page.get_by_role("button", name="Try this payload").click()
    expect(page.locator("#trial")).to_contain_text("Would be skipped", timeout=PATIENCE)
    window.keep("rule-tried")
    with ThreadingHTTPServer(("127.0.0.1", target), _Hook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            row = page.locator("table.runs tbody tr", has=page.locator("form button")).first
            run = row.locator("a").first.get_attribute("href") or ""
            row.locator("form button").click()
            expect(page.get_by_text("The run waits for the runner now.")).to_be_visible()
            window.open(run.removeprefix("/console"))
            expect(page.get_by_role("heading", name="Run of tell")).to_be_visible()

            def succeeded() -> bool:
                page.reload()
                return page.locator("main .badge.good", has_text="Succeeded").count() > 0

            eventually(succeeded, within=120, what="the run has succeeded")
            window.keep("run-retried")
        finally:
            server.shutdown()


def test_a_rule_is_written_from_a_trigger_type_s_schema(window: Visit) -> None:
    page = window.page
    page.locator("#n-attune-system-core\\.timer").click()
    page.wait_for_url("**/sensors/attune-system/core.timer*")
    expect(page.locator("#state .badge").first).to_have_text("Ready", timeout=PATIENCE)
    page.get_by_role("link", name="New Rule of type core.intervaltimer").click()
    page.get_by_label("Namespace").fill("team-b")
    page.locator("#f-name").fill("written")
    page.get_by_label("unit", exact=True).select_option("hours")
    page.get_by_role("button", name="Show the YAML").click()
    expect(page.get_by_label("interval")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text("'interval' is a required property")).to_be_visible()
    assert window.barriers() == []
    window.keep("new-rule-wrong")
    page.get_by_label("interval").fill("12")
    page.keyboard.press("Enter")
    expect(page.locator("#yaml pre")).to_contain_text("interval: 12\n      unit: hours")
    window.keep("new-rule")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url("**/rules/team-b/written*")
    expect(page.get_by_text("The Rule was made.")).to_be_visible()
    expect(page.locator("#state .badge")).to_have_text("Active", timeout=PATIENCE)
    # Chromium logs that the form came back with 422, as it should.
    window.faults = [fault for fault in window.faults if "status of 422" not in fault]


def test_everything_is_reached_by_keyboard(window: Visit) -> None:
    page = window.page
    expect(page.locator("#r-team-a-steady")).to_be_visible(timeout=PATIENCE)
    page.locator("body").press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("steady")
    expect(page.locator("#r-team-b-astray")).to_have_count(0, timeout=PATIENCE)

    def reach(selector: str) -> None:
        for _ in range(60):
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{selector} is not reached with Tab")

    reach("#r-team-a-steady")
    # The list is replaced every few seconds: who stands on a link stays there.
    with page.expect_response(lambda answer: "seen=" in answer.url and answer.status == 200, timeout=PATIENCE):
        pass
    expect(page.locator("#r-team-a-steady")).to_be_focused(timeout=PATIENCE)
    page.keyboard.press("Enter")
    page.wait_for_url("**/rules/team-a/steady*")
    reach("#switch")
    reach("#conditions summary")
    page.keyboard.press("Enter")
    expect(page.locator("#conditions")).to_have_attribute("open", "")


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_pages_have_no_barriers_and_fit(browser: Browser, up: AttuneUp, look: str) -> None:
    looks: dict[str, dict[str, Any]] = {
        "light": {},
        "dark": {"color_scheme": "dark"},
        "phone": {"viewport": {"width": 360, "height": 740}},
    }
    with visit(browser, url_of(up), **looks[look]) as window:
        window.open("/sign-in")
        assert window.barriers() == []
        window.keep(f"{look}-sign-in")
        sign_in(window, up)
        event = up.events()[0]
        for name, path in (
            ("overview", "/"),
            ("rule", "/rules/team-a/steady"),
            ("rule-with-actions", "/rules/team-a/telling"),
            ("rule-not-accepted", "/rules/team-b/astray"),
            ("sensor", "/sensors/attune-system/core.timer"),
            ("new-rule", "/sensors/attune-system/core.timer/types/core.crontimer/new-rule"),
            ("events", "/events"),
            ("event", f"/events/{event['id']}"),
            ("runs", "/runs"),
        ):
            page = window.open(path)
            page.wait_for_load_state("load")
            if path.startswith("/rules"):
                expect(page.locator("#chart figure")).to_be_visible(timeout=PATIENCE)
            assert window.barriers() == [], name
            assert not window.overflows(), name
            window.keep(f"{look}-{name}")
