"""Read-ahead is bounded for all lists together, and the session counts what it wastes."""

import asyncio

import pytest
from prefetching import Held, past
from raw_pages import IMODEL, PageServer, client, collect, listing
from support import until

from itwin_async import Limiter


@pytest.mark.parametrize(
    ("lists", "pages"), [(50, 5), (30, 1), pytest.param(200, 5, marks=pytest.mark.slow)]
)
async def test_many_lists_waste_no_request(lists, pages):
    async with (
        PageServer(listing(pages * 5, 5)) as server,
        client(server, limiter=Limiter(500)) as itwin,
    ):
        pager = itwin.imodels.list_extended_data(IMODEL).ahead(8)
        found = await asyncio.gather(*(collect(pager) for _ in range(lists)))
        assert {len(entries) for entries in found} == {pages * 5}
        assert len(server.calls) == lists * pages == itwin.stats.requests
        assert past(server, pages * 5) == 0
        assert itwin.stats.prefetched_in_vain == 0


async def test_two_lists_share_the_window_of_one():
    answer = Held(first=15)
    async with (
        PageServer(answer) as server,
        client(server, limiter=Limiter(concurrency=64)) as itwin,
    ):
        lists = [aiter(itwin.imodels.list_extended_data(IMODEL).ahead(8)) for _ in range(4)]
        for _ in range(15):
            for items in lists:
                await anext(items)
        await until(lambda: server.in_flight == 8)
        assert itwin.limiter.in_use == 8
        answer.open.set()
        for items in lists:
            assert len([item async for item in items]) == 185


async def test_one_list_alone_fills_its_window():
    answer = Held(first=75)
    async with (
        PageServer(answer) as server,
        client(server, limiter=Limiter(concurrency=64)) as itwin,
    ):
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(8))
        for _ in range(75):
            await anext(items)
        await until(lambda: server.in_flight == 8)
        waiting = asyncio.ensure_future(anext(items))
        await until(lambda: server.in_flight == 9)  # the page that is waited for is not ahead
        assert itwin.limiter.in_use == 9
        answer.open.set()
        await waiting
        assert len([item async for item in items]) == 124


async def test_the_session_counts_prefetched_pages_and_those_in_vain():
    async with PageServer(listing(50, 5)) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        assert len(await collect(pager)) == 50
        assert (itwin.stats.prefetched, itwin.stats.prefetched_in_vain) == (0, 0)
        assert len(await collect(pager.ahead(1))) == 50
        assert (itwin.stats.prefetched, itwin.stats.prefetched_in_vain) == (9, 0)
        assert len(await collect(pager.ahead(4))) == 50
        # 9 pages that were used, and what of the last window lies behind the end.
        in_vain = itwin.stats.prefetched_in_vain
        assert 0 <= in_vain <= 4
        assert itwin.stats.prefetched == 9 + 9 + in_vain
        assert itwin.stats.requests == 10 + 10 + 10 + in_vain


async def test_a_list_left_early_counts_its_prefetched_pages_as_in_vain():
    answer = Held()
    async with PageServer(answer) as server, client(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(8))
        await anext(items)
        await until(lambda: server.in_flight == 1)
        await items.aclose()
        await items.aclose()
        assert (itwin.stats.prefetched, itwin.stats.prefetched_in_vain) == (1, 1)
