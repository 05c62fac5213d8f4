"""The example's page in a real browser changes when a changeset is pushed: by a webhook alone."""

from collections.abc import AsyncIterator

import live_changes
import pytest
from chrome import Tab, browsing
from deliveries import SECRET
from serving import FOREVER, SUN_CITY
from test_browser_page import watch

from itwin_async import ITwinSession
from itwin_async.emulator import Emulator

NEW = {"data": {"changedFiles": ["New.dgn", "Plan.dgn"], "taskId": "t"}}


@pytest.fixture
async def tab(
    emulator: Emulator, itwin: ITwinSession, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Tab]:
    """The page, whose backend the emulator tells what happens, and which looks for nothing else."""
    monkeypatch.setenv("ITWIN_WEBHOOK_SECRET", SECRET)
    monkeypatch.setattr(live_changes, "EVERY", FOREVER)
    async with browsing(emulator) as found:
        webhook = await itwin.webhooks.create_webhook(
            f"{found.url}/webhook", "Account", ["iModels.changesReady.v1"], secret=SECRET
        )
        await itwin.webhooks.update_webhook(webhook.id, active=True)
        yield found


async def test_a_pushed_changeset_appears_on_the_page(tab: Tab, emulator: Emulator):
    await watch(tab)
    await tab.shows("live", "New changesets appear here")
    assert await tab.text("changesets") == "25"
    files = int(await tab.text("files"))

    emulator.push_changeset(SUN_CITY, NEW, description="A new bridge")
    await tab.shows("changesets", "26")
    await tab.shows("files", str(files + 2))
    row = tab.page.locator("#feed li").first
    assert await row.locator(".index").inner_text() == "#26"
    assert await row.locator(".title").inner_text() == "A new bridge"
    assert await row.locator(".chip").all_inner_texts() == NEW["data"]["changedFiles"]
    assert await tab.page.locator("#feed li").count() == 26
    assert await tab.page.locator("#bars .bar").count() == 26

    emulator.push_changeset(SUN_CITY, NEW)
    await tab.shows("changesets", "27")
    assert await tab.text("state") == "Complete"
    assert not tab.console


async def test_files_that_are_stored_late_appear_as_well(
    tab: Tab, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live_changes, "EVERY", 0.05)  # no event tells of them
    index = emulator.push_changeset(SUN_CITY)  # it is there, and its data is not
    await watch(tab)
    await tab.shows("live", "New changesets appear here")
    await tab.shows("changesets", "26")
    files = int(await tab.text("files"))
    assert await tab.page.locator("#feed li").first.locator(".chip").count() == 0
    emulator.store_extended_data(SUN_CITY, index, NEW)
    await tab.shows("files", str(files + 2))
    assert await tab.text("changesets") == "26"
    assert await tab.page.locator("#feed li").first.locator(".chip").count() == 2
    assert not tab.console


async def test_a_page_that_was_cut_off_gets_what_it_missed(
    tab: Tab, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live_changes, "MOST_LINES", 2)
    await watch(tab)
    await tab.shows("live", "New changesets appear here")
    for _ in range(4):
        emulator.push_changeset(SUN_CITY, NEW)
    await tab.shows("changesets", "29")
    await tab.page.locator("#feed li:nth-child(4) .chip").first.wait_for()
    assert await tab.text("changesets") == "29"
    assert sum("/live?after=" in url for url in tab.asked) > 1


async def test_a_page_that_shows_another_imodel_hears_of_that_alone(tab: Tab, emulator: Emulator):
    options = tab.page.locator("#imodel option")
    other = await options.nth(1).get_attribute("value")
    await watch(tab)
    await tab.shows("live", "New changesets appear here")
    await watch(tab, other)
    await tab.shows("live", "New changesets appear here")
    emulator.push_changeset(SUN_CITY, NEW)
    emulator.push_changeset(other, NEW, description="Of the other")
    await tab.shows("changesets", "26")
    title = tab.page.locator("#feed li .title").first
    assert await title.inner_text() == "Of the other"
