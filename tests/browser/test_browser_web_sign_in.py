"""A real Chromium signs users in to the web example, at the emulator's page."""

from collections.abc import AsyncIterator

import pytest
from chrome import ARGS, chromium
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from signing_in_to_web import USERS, Site, site


@pytest.fixture
async def app() -> AsyncIterator[Site]:
    async with site() as running:
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=chromium(), args=ARGS, timeout=120_000
        )
        try:
            yield browser
        finally:
            await browser.close()


async def person(browser: Browser) -> tuple[BrowserContext, Page, list[str]]:
    """Somebody with cookies of their own, and what their page complained of."""
    context = await browser.new_context()
    context.set_default_timeout(60_000)  # far longer than it takes
    page = await context.new_page()
    console: list[str] = []
    page.on("console", lambda message: console.append(message.text))
    page.on("pageerror", lambda error: console.append(str(error)))
    return context, page, console


async def choose(page: Page, app: Site, user: str) -> None:
    """Sign in as this user, from the app's page and back to it."""
    await page.goto(app.url)
    await page.get_by_role("link", name="Sign in").click()
    await page.get_by_role("button", name=user).click()
    await page.wait_for_url(f"{app.url}/")


async def test_two_users_sign_in_see_their_own_names_and_one_signs_out(app, browser):
    one, ada, ada_console = await person(browser)
    two, ray, ray_console = await person(browser)
    await choose(ada, app, "Ada Lovelace")
    await choose(ray, app, "Ray")
    assert await ada.locator("b").inner_text() == "Ada Lovelace"
    assert "ray" in (await ray.locator("b").inner_text()).lower()
    assert await ada.locator("li").count() > 0
    for context, page in ((one, ada), (two, ray)):
        (cookie,) = await context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("user", True, "Lax")
        assert await page.evaluate("document.cookie") == ""
        assert "code=" not in await page.content()
    await ada.get_by_role("button", name="Sign out").click()
    await ada.get_by_role("link", name="Sign in").wait_for()
    assert await one.cookies() == []
    assert app.emulator.count("revocation") == 1
    await ray.reload()
    assert await ray.locator("b").count() == 1
    assert ada_console == ray_console == []


async def test_a_foreign_state_is_refused(app, browser):
    _, attacker, _ = await person(browser)
    context, victim, _ = await person(browser)
    # The attacker signs in with an account of their own, and does not go where that leads to.
    await attacker.goto(f"{app.url}/login")
    address = app.emulator.sign_in_as(USERS[0], attacker.url)
    await victim.goto(f"{app.url}/login")
    link = await context.new_page()
    await link.goto(address)
    assert "This is not the sign-in that was begun here." in await link.content()
    await victim.get_by_role("button", name="Ray").click()
    await victim.locator("b").wait_for()
    assert "ray" in (await victim.locator("b").inner_text()).lower()
    assert app.emulator.count("token") == 1


async def test_a_user_refuses(app, browser):
    context, page, _ = await person(browser)
    await page.goto(f"{app.url}/login")
    await page.get_by_role("button", name="Refuse").click()
    await page.get_by_role("heading", name="Not signed in").wait_for()
    assert await context.cookies() == []
    await page.get_by_role("link", name="Back").click()
    await page.get_by_role("link", name="Sign in").wait_for()
