"""What a page costs, as counts: time cannot be tested where neighbours share the machine."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from raw_pages import IMODEL, PageServer, client, collect, listing

import itwin_async
from itwin_async import ITwinSession

PACKAGE = str(Path(itwin_async.__file__).parent)
PAGES = 40
# Calls of the library's own functions for a page of one entry; a coroutine counts again each time
# it is resumed. There are 79, and were 86 when each body was read once more to see its end, and
# each request waited for token and slot through four coroutines. All of them, with what they do,
# are a quarter of a page's time over loopback.
MOST_CALLS = 80


async def calls_of(itwin: ITwinSession) -> Counter[str]:
    """The calls that one list makes, by function."""
    counted: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            counted[f"{Path(code.co_filename).stem}.{code.co_qualname}"] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        found = await collect(itwin.imodels.list_extended_data(IMODEL))
    finally:
        sys.setprofile(before)
    assert len(found) == PAGES
    return counted


@pytest.mark.slow
async def test_a_page_takes_few_calls() -> None:
    async with PageServer(listing(PAGES, 1)) as server, client(server) as itwin:
        await calls_of(itwin)
        # The fewest of three runs: a response that arrives in pieces resumes its readers again.
        runs = [await calls_of(itwin) for _ in range(3)]
    fewest = min(runs, key=lambda counted: counted.total())
    a_page = fewest.total() / PAGES
    assert a_page <= MOST_CALLS, fewest.most_common(100)


async def test_requests_in_turn_make_no_timer_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    call_at, timers = loop.call_at, Counter[str]()

    def counting(
        when: float, callback: Callable[..., object], *args: Any, **options: Any
    ) -> asyncio.TimerHandle:
        timers[getattr(callback, "__module__", "")] += 1
        return call_at(when, callback, *args, **options)

    async with PageServer(listing(PAGES, 1)) as server, client(server) as itwin:
        await calls_of(itwin)
        monkeypatch.setattr(loop, "call_at", counting)
        await calls_of(itwin)
    assert not [module for module in timers if module.startswith("itwin_async")]
