"""A browser, pages in it, and digits to look at."""

from __future__ import annotations

import shutil

import pytest

from tests.dashboard.world import LONG, serving

BATCHES = 20


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as starter:
        found = starter.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def digits():
    """Monitors with some minutes in them, and a function that sends the next batch."""
    from rainpp.dashboard.demo import scans
    from tests.dashboard.digits import planted, watched_digits

    monitors = watched_digits()
    data, number = planted(), iter(range(10_000))

    def more():
        at = next(number)
        for monitor in monitors:
            with monitor.batch(source="scanners", upto=at) as batch:
                batch.predictions(scans(data, at))

    for _ in range(BATCHES):
        more()
    yield monitors, more
    for monitor in monitors:
        monitor.close()


@pytest.fixture(scope="module")
def server(digits):
    with serving(digits[0]) as found:
        yield found


class Watched:
    """A page, what it asked for, and what went wrong on it."""

    def __init__(self, context, url):
        context.set_default_timeout(LONG * 1000)
        self.page, self.asked, self.wrong = context.new_page(), [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda said: self.wrong.append(said.text))
        self.page.on("pageerror", lambda problem: self.wrong.append(str(problem)))
        self.page.goto(url)
        self.url = url


@pytest.fixture
def opened(browser):
    """A function that opens a page; afterwards nothing may have gone wrong, or left this host."""
    contexts, pages = [], []

    def open_page(server, *, ready=".plot canvas", path="", **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        found = Watched(context, server.url + path)
        pages.append((found, server.url))
        if ready:
            found.page.wait_for_selector(ready)
        return found.page

    yield open_page
    for found, url in pages:
        assert found.wrong == []
        assert all(asked.startswith(url) or asked.startswith("blob:") for asked in found.asked)
    for context in contexts:
        context.close()
