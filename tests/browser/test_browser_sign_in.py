"""A real Chromium at the emulator's sign-in page: what it shows, and where it leads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import web
from chrome import ARGS, chromium
from playwright.async_api import Page, async_playwright
from sign_in_host import free_port

from itwin_async import ITwinSession, UserSignIn
from itwin_async.emulator import Emulator


@asynccontextmanager
async def callback(answers: asyncio.Queue[dict[str, str]]) -> AsyncIterator[str]:
    """A redirect address on loopback; what is sent there is put into the queue."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/signin-callback":
            answers.put_nowait(dict(request.query))
        return web.Response(text="<title>Done</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/signin-callback"
    finally:
        await runner.cleanup()


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=chromium(), args=ARGS, timeout=120_000
        )
        try:
            page = await browser.new_page()
            page.set_default_timeout(60_000)  # far longer than it takes
            yield page
        finally:
            await browser.close()


async def test_a_user_is_chosen_and_another_refuses(page):
    answers: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    console: list[str] = []
    page.on("console", lambda message: console.append(message.text))
    async with callback(answers) as redirect_uri:
        names = ["<img src=x onerror=alert(1)>", "ada lovelace:reader"]
        async with Emulator(users=names, redirect_uris=[redirect_uri]) as emulator:
            query = {
                "response_type": "code",
                "client_id": emulator.user_client_id,
                "redirect_uri": redirect_uri,
                "scope": "itwin-platform",
                "state": "s1",
                "code_challenge": "c" * 43,
                "code_challenge_method": "S256",
            }
            url = f"{emulator.url}/connect/authorize?{urlencode(query)}"
            await page.goto(url)
            assert await page.locator("img").count() == 0
            assert await page.get_by_role("button").count() == 3
            await page.get_by_role("button", name="Ada Lovelace").click()
            answer = await answers.get()
            assert answer.keys() == {"code", "state", "iss"}
            assert answer["state"] == "s1"
            assert await page.title() == "Done"
            await page.goto(url)
            await page.get_by_role("button", name="Refuse").click()
            answer = await answers.get()
            assert (answer["error"], answer["state"]) == ("access_denied", "s1")
            await page.goto(f"{emulator.url}/connect/authorize?client_id=x")
            assert await page.title() == "Cannot sign in"
    assert [text for text in console if "400" not in text] == []


async def test_a_person_lands_in_the_session(page: Page) -> None:
    redirect_uri = f"http://127.0.0.1:{free_port()}/signin-callback"
    async with Emulator(users=["ada lovelace"], redirect_uris=[redirect_uri]) as emulator:
        provider = UserSignIn(emulator.user_client_id, redirect_uris=(redirect_uri,))
        async with ITwinSession(provider, base_url=emulator.url) as itwin:
            opened: asyncio.Queue[str] = asyncio.Queue()
            signed_in = asyncio.create_task(
                itwin.sign_in(open_browser=opened.put_nowait, timeout=60)
            )
            await page.goto(await opened.get())
            await page.get_by_role("button", name="Ada Lovelace").click()
            await signed_in
            assert (await itwin.get_me()).display_name == "Ada Lovelace"
            assert "code=" not in await page.content()


async def test_the_page_says_nothing_to_others(emulator):
    """Neither frames nor scripts nor the referrer have it."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{emulator.url}/connect/authorize") as response,
    ):
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["Referrer-Policy"] == "no-referrer"
