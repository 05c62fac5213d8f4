"""What the example's page says when things go wrong, and what is left when its tab is closed."""

import time

from serving import FOREVER, SUN_CITY, under_way
from support import until
from test_browser_page import watch

from itwin_async.emulator import Delay, Slow, Status, Throttle


async def test_a_throttle_is_shown_with_its_wait(tab, emulator):
    emulator.faults.add("list_changesets", Throttle(retry_after=90), times=None)
    await watch(tab)
    await tab.shows("state", "Failed")
    alert = tab.page.get_by_role("alert")
    assert "TooManyRequests" in await alert.inner_text()
    assert "Try again in 9" in await alert.inner_text()


async def test_an_error_in_mid_stream_is_shown_and_what_came_stays(tab, emulator):
    emulator.faults.add("list_extended_data", [Delay(1), Status(403)])
    await watch(tab)
    await tab.shows("state", "Failed")
    assert "InsufficientPermissions" in await tab.page.get_by_role("alert").inner_text()
    assert await tab.text("changesets") == "25"
    await watch(tab)
    await tab.shows("state", "Complete")
    assert not await tab.page.get_by_role("alert").is_visible()
    assert not tab.console  # the stream itself was a success


async def test_a_failing_search_says_so_and_recovers(tab, emulator):
    emulator.faults.add("list_extensions", Status(403))
    await tab.page.locator("#search").fill("camera")
    await tab.shows("found", "InsufficientPermissions")
    await tab.page.locator("#search").fill("weather")
    await tab.page.locator("mark", has_text="weather").first.wait_for()


async def test_closing_the_tab_ends_the_stream_upstream(tab, emulator, itwin):
    emulator.faults.add("list_changesets", Slow(1))
    emulator.faults.add("list_extended_data", Slow(2_000, chunk=100))
    await watch(tab)
    await tab.shows("feed", "A.dgn")
    await until(lambda: under_way(emulator, "list_changesets"))
    assert await tab.text("state") == "Streaming"
    since = time.monotonic()
    await tab.page.close()
    await until(lambda: emulator.requests[-1].ended and not under_way(emulator, "list_changesets"))
    took = max(item.ended for item in emulator.requests) - since
    assert took < 5, took  # 0.04 s where nothing else runs
    assert not under_way(emulator, "list_extended_data")
    again = await tab.context.new_page()
    facts = await (await again.request.get(f"{tab.url}/health")).json()
    assert facts["in_use"] == facts["waiting"] == 0
    await again.goto(tab.url)
    await again.locator("#watch:enabled").wait_for()
    await again.locator("#imodel").select_option(SUN_CITY)
    await again.locator("#watch").click()
    await again.locator("#state", has_text="Complete").wait_for()


async def test_closing_the_browser_before_the_first_line_ends_the_request_upstream(tab, emulator):
    emulator.faults.add("list_changesets", Delay(FOREVER))
    emulator.faults.add("list_extended_data", Delay(FOREVER))
    await watch(tab)
    await until(lambda: under_way(emulator, "list_extended_data"))
    await tab.context.close()
    await until(lambda: not under_way(emulator, "list_changesets"))
    await until(lambda: not under_way(emulator, "list_extended_data"))


async def test_a_platform_that_is_gone_is_a_sentence(tab, emulator):
    await emulator.aclose()
    await watch(tab)
    await tab.shows("state", "Failed")
    assert "refused" in await tab.page.get_by_role("alert").inner_text()
