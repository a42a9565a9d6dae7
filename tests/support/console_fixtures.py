"""Fixtures of the console's checks: ``pytest_plugins = ["support.console_fixtures"]``."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from support.console_browser import Visit, chromium, visit
from support.console_checks import Stage


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for all tests of a module."""
    with chromium() as running:
        yield running


@pytest.fixture
def window(browser: Browser, stage: Stage) -> Iterator[Visit]:
    """Somebody who is signed in, at the overview."""
    with visit(browser, stage.url) as opened:
        page = stage.sign_in(opened)
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        yield opened
