"""A person with a real Chromium lands in the session of a real kernel."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from chrome import ARGS, chromium
from kernel_sign_in import REDIRECT_URIS, Addresses, html_of, link_in, signing_in
from playwright.async_api import Page, async_playwright

from itwin_async.emulator import Emulator

RESOLVING = ("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(
        users=["ada lovelace", "ray:reader"],
        redirect_uris=REDIRECT_URIS,
        itwins=3,
        imodels=1,
        changesets=1,
    ) as running:
        yield running


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=chromium(),
            args=[item for item in ARGS if "resolver" not in item] + list(RESOLVING),
            timeout=120_000,
        )
        try:
            page = await browser.new_page()
            page.set_default_timeout(60_000)  # far longer than it takes
            yield page
        finally:
            await browser.close()


async def test_the_browser_that_the_kernel_opens(page, emulator, tmp_path):
    addresses = Addresses(tmp_path)
    async with signing_in(emulator, tmp_path, f"{addresses.command} %s") as (running, sources):
        signed_in = asyncio.create_task(running.run(sources["sign-in"]))
        await page.goto(await addresses.next())
        await page.get_by_role("button", name="Ada Lovelace").click()
        await page.get_by_role("heading", name="Signed in").wait_for()
        assert "code=" not in await page.content()
        await signed_in
        assert "Ada Lovelace" in html_of(await running.run(sources["me"]))
        assert "<table" in html_of(await running.run(sources["itwins"]))
        await running.run(sources["out"])
        assert emulator.count("revocation") == 1
        assert running.complaints() == ""


async def test_the_link_where_none_opens(page, emulator, tmp_path):
    async with signing_in(emulator, tmp_path, "false %s") as (running, sources):
        signed_in = asyncio.create_task(running.run(sources["sign-in"]))
        async with asyncio.timeout(60):
            while not (url := link_in(running.shown())):
                await asyncio.sleep(0.05)
        await page.goto(url)
        await page.get_by_role("button", name="Ada Lovelace").click()
        await page.get_by_role("heading", name="Signed in").wait_for()
        await signed_in
        assert "Ada Lovelace" in html_of(await running.run(sources["me"]))


async def test_a_browser_on_another_machine_and_its_address_pasted_back(page, emulator, tmp_path):
    async with signing_in(emulator, tmp_path, "false %s") as (running, sources):
        url = link_in(await running.run(sources["flow"]))
        assert url is not None
        await page.goto(url)
        async with page.expect_request(f"{REDIRECT_URIS[0]}?*") as sent:  # nobody listens there
            await page.get_by_role("button", name="ray").click()
        address = (await sent.value).url
        await running.run(f"input = lambda _prompt: {address!r}")  # tests have no keyboard
        assert "Ray" in html_of(await running.run(sources["finish"]))
        assert running.complaints() == ""
