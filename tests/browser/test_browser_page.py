"""The example's page in a real browser: it shows what the platform holds, as it comes."""

import os
from pathlib import Path

import pytest
from chrome import browsing
from serving import FOREVER, SUN_CITY, under_way
from support import until

from itwin_async.emulator import Delay, Edit, Emulator, Slow

HOSTILE = "<img src=x onerror=hacked()><script>hacked()</script>&amp;"
# What an element showed, in the order in which it did.
REMEMBER = """id => {
    const shown = document.getElementById(id);
    window.history_of = [];
    new MutationObserver(() => window.history_of.push([
        shown.textContent, document.getElementById("state").textContent,
    ])).observe(shown, { childList: true, characterData: true, subtree: true });
}"""


async def watch(tab, imodel_id=SUN_CITY):
    await tab.page.locator("#imodel").select_option(imodel_id)
    await tab.page.locator("#watch").click()


async def test_search_shows_what_the_platform_holds(tab, itwin):
    await tab.page.locator("#search").fill("VIEWER")
    found = [item.name async for item in itwin.extensions.list_extensions(search="VIEWER")]
    assert found
    await tab.shows("found", f"{len(found)} found")
    assert await tab.rows("extensions") == found
    assert await tab.page.locator("mark").all_inner_texts() == ["viewer"] * len(found)
    assert not tab.console


async def test_typing_asks_once_when_it_pauses(tab, emulator):
    await tab.page.clock.install()
    await tab.page.clock.pause_at(await tab.page.evaluate("Date.now() + 1000"))
    before = emulator.count("list_extensions")
    await tab.page.locator("#search").press_sequentially("legend")
    await tab.page.clock.run_for(150)
    assert emulator.count("list_extensions") == before
    await tab.page.clock.run_for(100)
    await tab.page.locator("mark", has_text="legend").first.wait_for()
    assert emulator.count("list_extensions") == before + 1


async def test_an_older_answer_is_dropped_and_ended_upstream(tab, emulator):
    emulator.faults.add(lambda item: item.query.get("search") == "clash", Delay(FOREVER))
    await tab.page.locator("#search").fill("clash")
    await until(lambda: under_way(emulator, "list_extensions"))
    await tab.page.locator("#search").fill("terrain")
    await until(lambda: not under_way(emulator, "list_extensions"))
    await tab.page.locator("mark", has_text="terrain").first.wait_for()
    assert all("terrain" in name for name in await tab.rows("extensions"))
    assert not tab.console


async def test_an_itwin_is_chosen_and_then_its_imodel(tab, itwin):
    shown = {}
    for option in await tab.page.locator("#itwin option").all():
        id = await option.get_attribute("value")
        async with tab.page.expect_response(f"**/api/itwins/{id}/imodels"):
            await tab.page.locator("#itwin").select_option(id)
            await tab.page.locator("#itwin").dispatch_event("change")
        await tab.page.wait_for_load_state("networkidle")
        shown[id] = await tab.page.locator("#imodel option").all_inner_texts()
    held = {
        found.id: [item.display_name async for item in itwin.imodels.list_imodels(found.id)]
        async for found in itwin.itwins.list_itwins()
    }
    assert shown == {id: names or ["No iModels"] for id, names in held.items()}


async def test_changesets_are_shown_while_they_stream_in(tab, emulator, itwin):
    emulator.faults.add("list_changesets", Slow(20_000, chunk=400))
    await tab.page.evaluate(REMEMBER, "changesets")
    await watch(tab)
    await tab.shows("state", "Complete")
    history = await tab.page.evaluate("window.history_of")
    in_between = [int(count) for count, state in history if state == "Streaming"]
    assert {1, 24} <= set(in_between)
    assert in_between == sorted(in_between)
    assert await tab.text("changesets") == "25"
    entries = [item async for item in itwin.imodels.list_extended_data(SUN_CITY)]
    files = [name for item in entries for name in item.data["data"]["changedFiles"]]
    assert await tab.text("files") == str(len(files))
    rows = tab.page.locator("#feed li")
    assert await rows.locator(".index").all_inner_texts() == [f"#{n}" for n in range(25, 0, -1)]
    assert await rows.last.locator(".chip").all_inner_texts() == ["A.dgn", "B.dgn"]
    assert await tab.page.locator("#bars .bar").count() == 25
    label = await tab.page.locator("#bars").get_attribute("aria-label")
    assert label.startswith("25 changesets of ")
    assert not tab.console


async def test_a_stream_is_shown_in_part_and_can_be_stopped(tab, emulator):
    emulator.faults.add("list_extended_data", Delay(FOREVER))
    await watch(tab)
    await tab.shows("changesets", "25")
    assert await tab.text("state") == "Streaming"
    assert await tab.text("files") == "0"
    await until(lambda: under_way(emulator, "list_extended_data"))
    await tab.page.locator("#stop").click()
    await tab.shows("state", "Stopped")
    await until(lambda: not under_way(emulator, "list_extended_data"))
    await watch(tab)  # and again
    await tab.shows("state", "Complete")
    assert await tab.text("changesets") == "25"
    assert not tab.console


async def test_watching_another_imodel_ends_the_first(tab, emulator):
    emulator.faults.add("list_extended_data", Delay(FOREVER))
    await watch(tab)
    await tab.shows("changesets", "25")
    await until(lambda: under_way(emulator, "list_extended_data"))
    await watch(tab)
    await until(lambda: not under_way(emulator, "list_extended_data"))
    await tab.shows("state", "Complete")
    assert await tab.page.locator("#feed li").count() == 25


async def test_the_keyboard_is_enough(tab, emulator):
    emulator.faults.add("list_extended_data", Delay(FOREVER))
    await tab.page.keyboard.press("/")
    await tab.page.keyboard.type("camera")
    await tab.page.locator("mark", has_text="camera").first.wait_for()
    focused = "document.activeElement.id"
    for id in ("extensions", "itwin", "imodel", "watch"):
        await tab.page.keyboard.press("Tab")
        assert await tab.page.evaluate(focused) == id
    await tab.page.keyboard.press("Enter")
    await tab.shows("changesets", "25")
    await tab.page.keyboard.press("Escape")
    await tab.shows("state", "Stopped")
    await until(lambda: not under_way(emulator, "list_extended_data"))


async def test_everything_has_a_name(tab):
    unnamed = await tab.page.evaluate(
        """[...document.querySelectorAll("input, select, button, [role=img], [tabindex]")]
        .filter(each => !each.labels?.length && !each.ariaLabel && !each.textContent
            && !each.hasAttribute("aria-labelledby")).map(each => each.outerHTML)"""
    )
    assert not unnamed


async def test_hostile_names_are_shown_as_text(tab, emulator):
    def rename(*path):
        def change(body):
            for item in body[path[0]]:
                item[path[1]] = HOSTILE

        return Edit(change)

    emulator.faults.add("list_extensions", rename("extensions", "name"), times=None)
    emulator.faults.add("list_changesets", rename("changesets", "description"))
    emulator.faults.add("list_imodels", rename("iModels", "displayName"), times=None)
    await tab.page.expose_function("hacked", lambda: tab.console.append("hacked"))
    await tab.page.reload()
    await tab.page.locator("#watch:enabled").wait_for()
    await tab.page.locator("#search").fill("img")
    await tab.shows("extensions", HOSTILE)
    await watch(tab)
    await tab.shows("state", "Complete")
    assert await tab.page.locator("#feed .title").first.inner_text() == HOSTILE
    assert (await tab.page.locator("#imodel option").all_inner_texts())[0] == HOSTILE
    assert await tab.page.locator("main img, main script").count() == 0
    assert not tab.console


async def test_what_the_page_keeps_is_bounded():
    async with (
        Emulator(imodels=1, changesets=1_000, extensions=120) as emulator,
        browsing(emulator) as tab,
    ):
        await watch(tab)
        await tab.shows("state", "Complete")
        assert await tab.text("changesets") == "1,000"
        assert await tab.page.locator("#feed li").count() == 200
        assert await tab.page.locator("#feed li .index").first.inner_text() == "#1000"
        assert 48 <= await tab.page.locator("#bars .bar").count() <= 96
        assert await tab.page.locator("#extensions li").count() == 50
        assert await tab.text("found") == "The first 50"
        drawn = await tab.page.evaluate(
            """[...document.querySelectorAll(".bar")].reduce(
                (sum, bar) => sum + Number(bar.style.getPropertyValue("--files")), 0)"""
        )
        assert f"{drawn:,}" == await tab.text("files")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_the_page_fits_its_window(scheme, width):
    """With a directory in SCREENSHOTS it also keeps what it saw there."""
    async with (
        Emulator(changesets=120, max_top=20) as emulator,
        browsing(emulator, color_scheme=scheme, timezone_id="UTC", reduced_motion="reduce") as tab,
    ):
        await tab.page.set_viewport_size({"width": width, "height": 720})
        await tab.page.locator("#search").fill("er")
        emulator.faults.add("list_changesets", Delay(FOREVER), after=4)
        emulator.faults.add("list_extended_data", Delay(FOREVER), after=4)
        await watch(tab)
        await tab.shows("changesets", "80")
        in_use = tab.page.locator("#health div", has_text="in use")
        await in_use.locator("dd", has_text="2").wait_for()
        if folder := os.environ.get("SCREENSHOTS"):
            plain = (scheme, width) == ("light", 1280)
            name = "web-page.png" if plain else f"web-page-{scheme}-{width}.png"
            await tab.page.screenshot(path=Path(folder) / name, full_page=width < 1280)
        wide = await tab.page.evaluate(
            """[...document.querySelectorAll("body *")]
            .filter(each => each.getBoundingClientRect().right > innerWidth + 1)
            .map(each => each.outerHTML.slice(0, 200))"""
        )
        assert not wide
        assert await tab.page.evaluate("document.documentElement.scrollWidth") <= width


async def test_it_does_not_matter_which_list_is_first():
    async with (
        Emulator(imodels=1, changesets=12) as emulator,
        browsing(emulator) as tab,
    ):

        def only_late_ones(page):
            page["extendedData"] = page["extendedData"][6:]

        emulator.faults.add("list_extended_data", Edit(only_late_ones))
        emulator.faults.add("list_changesets", Delay(1))
        await watch(tab)
        await tab.shows("state", "Complete")
        sizes = await tab.page.evaluate(
            """[...document.querySelectorAll(".bar")]
            .map(bar => Number(bar.style.getPropertyValue("--size")) > 0)"""
        )
        assert sizes == [True] * 12
        numbers = await tab.page.locator("#feed .index").all_inner_texts()
        assert numbers == [f"#{n}" for n in range(12, 0, -1)]
