"""A real Chromium that looks at the console, and holds against it whatever a page must not do."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

REPOSITORY: Final = Path(__file__).parents[2]
#: Where the last run's screenshots are.
SHOTS: Final = REPOSITORY / ".cache" / "console"
_AXE: Final = Path(__file__).parent / "axe" / "axe.min.js"
#: Milliseconds that anything may take on a busy machine.
PATIENCE: Final = 90_000.0


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window. It runs as whoever runs the tests, in a container as root: so without its sandbox."""
    program = shutil.which("chromium")
    assert program is not None, "there is no chromium; on Debian: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=PATIENCE)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One browser window, and all that its pages did that they must not.

    Args:
        browser: the browser.
        url: of the API; requests to other hosts are faults.
        options: of the window, such as its size.
    """

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.faults: list[str] = []
        self._expected: set[str] = set()
        self.context: BrowserContext = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        # A policy's violations are among the errors, too.
        if message.type == "error" and not any(each in message.text for each in self._expected):
            self.faults.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/console", "data:")):
            self.faults.append(f"request to {request.url}")

    def open(self, path: str) -> Page:
        """Go to a page of the console."""
        self.page.goto(f"{self.url}/console{path}")
        return self.page

    def expect_status(self, status: int) -> None:
        """From now on pages may be answered with this one of 4xx: Chromium logs each as an error."""
        self._expected.add(f"the server responded with a status of {status}")

    def keep(self, name: str) -> None:
        """Keep a picture of the page."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    def barriers(self) -> list[str]:
        """What axe-core finds of serious barriers for people with disabilities (WCAG 2.2 A and AA, and good practice)."""
        script = f"{_AXE.read_text()}; axe.run({{resultTypes: ['violations']}}).then(found => found.violations)"
        found: list[dict[str, Any]] = self.page.evaluate(script)
        return [
            f"{each['id']} ({each['impact']}): {node['html'][:200]}: {node['failureSummary'][:200]}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]

    def overflows(self) -> bool:
        """Whether the page is wider than the window."""
        return bool(self.page.evaluate("document.scrollingElement.scrollWidth > window.innerWidth + 1"))

    def close(self) -> None:
        """Close the window."""
        self.context.close()


@contextmanager
def visit(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """A window; what its pages did wrong fails the test."""
    window = Visit(browser, url, **options)
    try:
        yield window
        assert window.faults == [], f"pages did what they must not: {window.faults}"
    finally:
        window.close()
