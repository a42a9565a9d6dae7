"""What the console does in a browser, wherever it runs: classes of tests that each stage inherits.

Under ``attune up`` (tests/browser) and in a cluster (tests/soak) it is the same console, so it is held to the same. Fixtures are
in :mod:`support.console_fixtures`; a module adds ``stage``, or ``rights_stage``.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from support.console_browser import PATIENCE, Visit, visit
from support.eventually import eventually
from support.kubectl import Kubectl, Manifest

#: Seconds for what goes through a sensor or the runner.
SOON = 120.0


def rule(namespace: str, name: str, trigger: Manifest, **spec: Any) -> Manifest:
    """A Rule."""
    metadata = {"name": name, "namespace": namespace}
    spec = {"trigger": trigger, **spec}
    return {"apiVersion": "attune.dev/v1alpha1", "kind": "Rule", "metadata": metadata, "spec": spec}


def every(interval: int, unit: str) -> Manifest:
    """A timer's trigger."""
    return {"type": "core.intervaltimer", "parameters": {"interval": interval, "unit": unit}}


def rules(one: str, other: str, target: str) -> list[Manifest]:
    """Rules that the checks look at: one that fires, one whose action calls ``target``, and one that nobody serves."""
    tell = {
        "name": "tell",
        "when": f"event.payload.rule == '{one}/telling'",
        "http": {"url": target, "body": {"text": "${event.payload.rule}"}},
        "retry": {"attempts": 1},
    }
    return [
        rule(one, "steady", every(500, "milliseconds")),
        rule(one, "telling", every(5, "seconds"), actions=[tell]),
        rule(other, "astray", {"type": "acme.nothing"}),
    ]


@dataclass(kw_only=True)
class Stage(ABC):
    """Where the console runs.

    Attributes:
        url: of the API, as the browser reaches it.
        kube: what an author types.
        one: the namespace with the Rules ``steady`` and ``telling``.
        other: the one with the Rule ``astray``.
    """

    url: str
    kube: Kubectl
    one: str
    other: str

    @abstractmethod
    def token(self) -> str:
        """The token of one who may do everything that the checks do."""

    @abstractmethod
    def link(self) -> AbstractContextManager[str]:
        """The link that ``attune ui`` prints, good for a while."""

    @abstractmethod
    def mended(self) -> AbstractContextManager[None]:
        """Until its end, what the action ``tell`` calls works; else it does not."""

    def sign_in(self, window: Visit) -> Page:
        """By a one-time code, as ``attune ui`` does."""
        bearer = {"Authorization": f"Bearer {self.token()}"}
        answer = httpx.post(f"{self.url}/console/codes", headers=bearer, timeout=60, trust_env=False)
        window.page.goto(f"{self.url}/console/sign-in#code={answer.json()['data']['code']}")
        window.page.wait_for_url("**/console/")
        return window.page


def reach(page: Page, selector: str) -> None:
    """Press Tab until the focus is there."""
    for _ in range(80):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached with Tab")


class ConsoleChecks:
    """What people see, click and type, and what pages must not do."""

    def test_signing_in_with_a_link_or_a_token_and_out(self, browser: Browser, stage: Stage) -> None:
        with stage.link() as link, visit(browser, link.partition("/console")[0]) as window:
            window.page.goto(link)
            window.page.wait_for_url("**/console/")
            expect(window.page.get_by_role("heading", name="Overview")).to_be_visible()
            assert "code" not in window.page.url
            window.page.get_by_role("button", name="Sign out").click()
            expect(window.page.get_by_text("You are signed out.")).to_be_visible()
            page = window.open("/events")
            expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
            page.get_by_label("token").fill(stage.token())
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/console/events")
            assert page.evaluate("document.cookie") == ""

    def test_signing_out_takes_every_open_page_along(self, window: Visit, stage: Stage) -> None:
        pages = [window.page, window.context.new_page()]
        pages[0].goto(f"{stage.url}/console/rules/{stage.one}/steady")
        expect(pages[0].get_by_role("button", name="Disable")).to_be_visible()
        pages[1].goto(f"{stage.url}/console/runs")
        pages[1].get_by_role("button", name="Sign out").click()
        pages[0].wait_for_url("**/console/sign-in*", timeout=PATIENCE)
        expect(pages[0].get_by_text("Your session has ended")).to_be_visible()

    def test_pages_follow_what_happens(self, window: Visit, stage: Stage) -> None:
        page = window.page
        expect(page.locator(f"#r-{stage.other}-astray")).to_be_visible(timeout=PATIENCE)
        stage.kube.apply(rule(stage.other, "late", every(1, "hours")))
        row = page.locator("tr", has=page.locator(f"#r-{stage.other}-late"))
        expect(row.get_by_text("Active", exact=True)).to_be_visible(timeout=PATIENCE)
        stage.kube.delete("rule", "late", stage.other)
        expect(row).to_have_count(0, timeout=PATIENCE)
        window.open(f"/rules/{stage.one}/steady")
        first = page.locator("#tail-items .event summary time").first
        before = first.text_content()
        expect(first).not_to_have_text(before or "", timeout=PATIENCE)
        expect(page.locator("#chart rect").first).to_be_attached(timeout=PATIENCE)
        expect(page.locator("#history")).to_contain_text("created", timeout=PATIENCE)
        page.locator("#tail-items summary").last.click()
        expect(page.locator("#tail-items pre").last).to_contain_text("scheduled_at")

    def test_the_tail_is_filtered_by_payload(self, window: Visit, stage: Stage) -> None:
        page = window.open(f"/rules/{stage.one}/steady")
        expect(page.locator("#tail-items .event").first).to_be_visible(timeout=PATIENCE)
        page.get_by_label("Payload", exact=True).fill("rule=nobody")
        page.get_by_role("button", name="Filter").click()
        expect(page.get_by_text("No event matches.")).to_be_visible(timeout=PATIENCE)
        expect(page.locator("#tail-items .event")).to_have_count(0)
        page.get_by_label("Payload", exact=True).fill(f"rule={stage.one}/steady")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator("#tail-items .event").first).to_be_visible(timeout=PATIENCE)

    def test_a_rule_is_switched_off_and_on(self, window: Visit, stage: Stage) -> None:
        page = window.open(f"/rules/{stage.one}/steady")
        page.get_by_role("button", name="Disable").click()
        expect(page.get_by_text("The Rule is disabled.", exact=False).first).to_be_visible()
        expect(page.locator("#state .badge")).to_have_text("Disabled", timeout=PATIENCE)
        assert stage.kube.get("rule", "steady", stage.one)["spec"]["enabled"] is False
        page.get_by_role("button", name="Enable").click()
        expect(page.locator("#state .badge")).to_have_text("Active", timeout=PATIENCE)

    def test_a_rule_is_tried_and_a_failed_run_is_retried(self, window: Visit, stage: Stage) -> None:
        page = window.open(f"/rules/{stage.one}/telling")
        retry = "table.runs form button"

        def failed() -> bool:
            page.reload()
            state = page.locator("#state .badge").inner_text().strip()
            return state == "Actions fail" and page.locator(retry).count() > 0

        eventually(failed, within=SOON, what="the run has failed")
        page.get_by_role("button", name="Try the stored events").click()
        expect(page.locator("#trial")).to_contain_text("Would run", timeout=PATIENCE)
        expect(page.locator("#trial")).to_contain_text(f"text: {stage.one}/telling")
        page.get_by_label("A payload (JSON)").fill('{"rule": "another"}')
        page.get_by_role("button", name="Try this payload").click()
        expect(page.locator("#trial")).to_contain_text("Would be skipped", timeout=PATIENCE)
        assert window.barriers() == []
        window.keep("rule-tried")
        with stage.mended():
            row = page.locator("table.runs tbody tr", has=page.locator("form button")).first
            run = row.locator("a").first.get_attribute("href") or ""
            row.locator("form button").click()
            expect(page.get_by_text("The run waits for the runner now.")).to_be_visible()
            window.open(run.removeprefix("/console"))
            expect(page.get_by_role("heading", name="Run of tell")).to_be_visible()

            def succeeded() -> bool:
                page.reload()
                return page.locator("main .badge.good", has_text="Succeeded").count() > 0

            eventually(succeeded, within=SOON, what="the run has succeeded")
            assert window.barriers() == []
            window.keep("run-retried")

    def test_a_rule_is_written_from_a_trigger_type_s_schema(self, window: Visit, stage: Stage) -> None:
        page = window.page
        window.expect_status(422)
        page.locator("#n-attune-system-core\\.timer").click()
        page.wait_for_url("**/sensors/attune-system/core.timer*")
        expect(page.locator("#state .badge").first).to_have_text("Ready", timeout=PATIENCE)
        page.get_by_role("link", name="New Rule of type core.intervaltimer").click()
        page.get_by_label("Namespace").fill(stage.other)
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
        page.wait_for_url(f"**/rules/{stage.other}/written*")
        expect(page.get_by_text("The Rule was made.")).to_be_visible()
        expect(page.locator("#state .badge")).to_have_text("Active", timeout=PATIENCE)

    def test_events_and_runs_are_searched_and_have_links_of_their_own(self, window: Visit, stage: Stage) -> None:
        page = window.open("/events")
        page.get_by_label("Rule", exact=True).fill("telling")

        def found() -> bool:
            page.get_by_role("button", name="Search").click()
            page.wait_for_url("**rule_name=telling*")
            return page.locator(".event").count() > 1

        eventually(found, within=SOON, what="two events of the Rule are found")
        assert set(page.locator(".event .of").all_inner_texts()) == {f"{stage.one}/telling"}
        page.locator(".event summary").last.click()
        page.get_by_role("link", name="permalink").last.click()
        event = page.url
        expect(page.get_by_role("heading", name="What became of it")).to_be_visible()

        def done() -> bool:
            page.goto(event)
            return page.locator("table.runs tbody tr").count() == 1

        eventually(done, within=SOON, what="the event has its run")
        page.locator("table.runs a").first.click()
        expect(page.get_by_role("heading", name="Run of tell")).to_be_visible()
        window.open("/runs")
        page.get_by_label("State", exact=True).select_option("Failed")
        page.get_by_role("button", name="Search").click()
        page.wait_for_url("**state=Failed*")
        expect(page.locator("table.runs tbody tr").first).to_be_visible()
        assert {text.strip() for text in page.locator("table.runs tbody .badge").all_inner_texts()} == {"Failed"}

    def test_everything_is_reached_by_keyboard(self, window: Visit, stage: Stage) -> None:
        page, steady = window.page, f"#r-{stage.one}-steady"
        expect(page.locator(steady)).to_be_visible(timeout=PATIENCE)
        page.locator("body").press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.locator("#q")).to_be_focused()
        page.keyboard.type("steady")
        expect(page.locator(f"#r-{stage.other}-astray")).to_have_count(0, timeout=PATIENCE)
        reach(page, steady)
        # The list is replaced every few seconds: who stands on a link stays there.
        with page.expect_response(lambda answer: "seen=" in answer.url and answer.status == 200, timeout=PATIENCE):
            pass
        expect(page.locator(steady)).to_be_focused(timeout=PATIENCE)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/rules/{stage.one}/steady*")
        reach(page, "#conditions summary")
        page.keyboard.press("Enter")
        expect(page.locator("#conditions")).to_have_attribute("open", "")
        for button, becomes in (("Disable", "Disabled"), ("Enable", "Active")):
            expect(page.locator("#switch")).to_have_text(button)
            page.locator("body").press("Tab")
            reach(page, "#switch")
            page.keyboard.press("Enter")
            expect(page.locator("#state .badge")).to_have_text(becomes, timeout=PATIENCE)

    LOOKS: ClassVar[dict[str, dict[str, Any]]] = {
        "light": {},
        "dark": {"color_scheme": "dark"},
        "phone": {"viewport": {"width": 360, "height": 740}},
    }

    @pytest.mark.parametrize("look", LOOKS)
    def test_pages_have_no_barriers_and_fit(self, browser: Browser, stage: Stage, look: str) -> None:
        with visit(browser, stage.url, **self.LOOKS[look]) as window:
            window.open("/sign-in")
            assert window.barriers() == []
            window.keep(f"{look}-sign-in")
            stage.sign_in(window)
            for name, path in (
                ("overview", "/"),
                ("rule", f"/rules/{stage.one}/steady"),
                ("rule-with-actions", f"/rules/{stage.one}/telling"),
                ("rule-not-accepted", f"/rules/{stage.other}/astray"),
                ("sensor", "/sensors/attune-system/core.timer"),
                ("new-rule", "/sensors/attune-system/core.timer/types/core.crontimer/new-rule"),
                ("events", "/events"),
                ("event", self._first(window, "/events", ".event a[href*='/events/']")),
                ("runs", "/runs"),
                ("run", self._first(window, "/runs", "table.runs a[href*='/runs/']")),
            ):
                page = window.open(path)
                page.wait_for_load_state("load")
                if path.startswith("/rules"):
                    expect(page.locator("#chart figure")).to_be_visible(timeout=PATIENCE)
                assert window.barriers() == [], name
                assert not window.overflows(), name
                window.keep(f"{look}-{name}")

    @staticmethod
    def _first(window: Visit, path: str, selector: str) -> str:
        """Where the first link of a page leads."""

        def found() -> str | None:
            page = window.open(path)
            link = page.locator(selector)
            return link.first.get_attribute("href") if link.count() else None

        return eventually(found, within=SOON, what=f"{path} has a link {selector}").removeprefix("/console")

    def test_what_pages_must_not_do_is_forbidden_and_noticed(self, window: Visit) -> None:
        window.open("/runs")
        add = """([tag, name, value]) => {
            const made = document.createElement(tag);
            made[name] = value;
            document.body.append(made);
        }"""
        window.page.evaluate(add, ["script", "textContent", "window.ran = true"])
        window.page.evaluate(add, ["img", "src", "http://192.0.2.1/pixel.png"])

        def noticed() -> bool:
            window.page.evaluate("0")  # what the browser said comes in between
            said = "\n".join(window.faults)
            return "inline script" in said and "192.0.2.1" in said

        eventually(noticed, within=30, what="both are noticed")
        assert window.page.evaluate("window.ran") is None
        window.faults.clear()


@dataclass(kw_only=True)
class RightsStage(ABC):
    """A console in a cluster, for people with different rights; ``one`` has a Rule ``steady``, ``other`` a Rule ``astray``."""

    url: str
    one: str
    other: str

    @abstractmethod
    def reader(self, name: str) -> str:
        """A token of a new account that may read all in the namespace ``one``, and nothing elsewhere."""

    @abstractmethod
    def withdraw(self, name: str) -> None:
        """Delete the account."""


class RightsChecks:
    """What somebody sees and can do who may read one namespace only."""

    @staticmethod
    def _enter(window: Visit, token: str) -> Page:
        window.expect_status(403)
        page = window.open("/")
        page.get_by_label("token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/console/")
        return page

    def test_a_reader_of_one_namespace_sees_that_one(self, browser: Browser, rights_stage: RightsStage) -> None:
        stage = rights_stage
        with visit(browser, stage.url) as window:
            page = self._enter(window, stage.reader("onlooker"))
            expect(page.get_by_role("heading", name="Choose a namespace")).to_be_visible()
            assert window.barriers() == []
            window.keep("choose-namespace")
            page.get_by_label("Namespace").fill(stage.one)
            page.keyboard.press("Enter")
            expect(page.locator(f"#r-{stage.one}-steady")).to_be_visible(timeout=PATIENCE)
            expect(page.locator(f"#r-{stage.other}-astray")).to_have_count(0)
            assert window.barriers() == []
            window.keep("overview-of-one-namespace")
            page.locator(f"#r-{stage.one}-steady").click()
            expect(page.get_by_role("button", name="Disable")).to_be_disabled()
            for path in (
                f"/rules/{stage.other}/astray",
                f"/events?namespace={stage.other}",
                f"/runs?namespace={stage.other}",
                f"/?namespace={stage.other}",
            ):
                window.open(path)
                expect(page.get_by_role("heading", name="You may not see")).to_be_visible()
                assert "acme.nothing" not in page.content(), path
            assert window.barriers() == []
            window.keep("may-not-see")

    def test_a_token_that_is_withdrawn_ends_the_session(self, browser: Browser, rights_stage: RightsStage) -> None:
        stage = rights_stage
        with visit(browser, stage.url) as window:
            page = self._enter(window, stage.reader("leaver"))
            page.get_by_label("Namespace").fill(stage.one)
            page.keyboard.press("Enter")
            expect(page.locator(f"#r-{stage.one}-steady")).to_be_visible(timeout=PATIENCE)
            stage.withdraw("leaver")
            page.wait_for_url("**/console/sign-in*", timeout=PATIENCE)
            expect(page.get_by_text("Your session has ended, or your token is no longer accepted.")).to_be_visible()
