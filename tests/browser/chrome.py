"""A real Chromium on the example's page, which may talk to nothing but the example."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import fastapi_app
import pytest
from playwright.async_api import BrowserContext, Page, async_playwright
from serving import serving

from itwin_async.emulator import Emulator

ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-lcd-text",  # pictures are the same on every screen, and smaller
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def chromium() -> str:
    """The executable; without one these tests fail, loudly."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert found, "no chromium: install it (apt-get install chromium) or name it in CHROMIUM"
    return found


@dataclass
class Tab:
    """The page of the example, what it logged on its console, and whom it asked."""

    page: Page
    url: str
    context: BrowserContext
    console: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def text(self, id: str) -> str:
        """What an element shows."""
        return await self.page.locator(f"#{id}").inner_text()

    async def shows(self, id: str, text: str) -> None:
        """Wait until an element shows a text."""
        await self.page.locator(f"#{id}", has_text=text).wait_for()

    async def rows(self, list_id: str) -> list[str]:
        """The first line of each row of a list."""
        rows = await self.page.locator(f"#{list_id} li").all_inner_texts()
        return [row.splitlines()[0] for row in rows]


@asynccontextmanager
async def browsing(emulator: Emulator, **options: object) -> AsyncIterator[Tab]:
    """The page in a tab of a fresh browser, served by the example in front of an emulator."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in emulator.environment.items():
            patch.setenv(name, value)
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(serving(fastapi_app.app))
            driver = await stack.enter_async_context(async_playwright())
            browser = await driver.chromium.launch(
                executable_path=chromium(), args=ARGS, timeout=120_000
            )
            stack.push_async_callback(browser.close)
            context = await browser.new_context(viewport={"width": 1280, "height": 800}, **options)
            context.set_default_timeout(60_000)  # far longer than it takes
            tab = Tab(await context.new_page(), url, context)
            tab.page.on("console", lambda message: tab.console.append(message.text))
            tab.page.on("pageerror", lambda error: tab.console.append(str(error)))
            context.on("request", lambda request: tab.asked.append(request.url))
            await tab.page.goto(url)
            await tab.page.locator("#watch:enabled").wait_for()
            yield tab
            strangers = [item for item in tab.asked if not item.startswith((url, "data:"))]
            assert not strangers
