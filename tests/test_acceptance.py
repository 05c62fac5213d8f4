"""What the library was made for, seen from the server."""

import asyncio
import gc

import pytest
from raw_pages import client, collect, settled
from support import Clock, until

from itwin_async import Limiter, merged
from itwin_async.emulator import Emulator

LIST = "list_extended_data"


async def all_imodels(itwin) -> list[str]:
    """The ids of all iModels."""
    return [
        imodel.id
        async for owner in itwin.itwins.list_itwins()
        async for imodel in itwin.imodels.list_imodels(owner.id)
    ]


@pytest.mark.slow
async def test_ten_thousand_entries_of_forty_imodels_need_sixteen_requests_at_once():
    async with (
        Emulator(imodels=40, changesets=250, latency=0.002) as emulator,
        client(emulator, limiter=Limiter(concurrency=16)) as itwin,
    ):
        ids = await all_imodels(itwin)
        assert len(ids) == 40
        emulator.max_in_flight = 0
        source = (itwin.imodels.list_extended_data(id, page_size=25).ahead(8) for id in ids)
        got: dict[str, list[int]] = {id: [] for id in ids}
        async with merged(source, workers=40, buffer=500) as items:
            async for item in items:
                got[item.imodel_id].append(item.changeset_index)
                assert item.data["data"]["taskId"]
        assert all(indexes == list(range(1, 251)) for indexes in got.values())
        assert sum(map(len, got.values())) == 10_000
        assert 1 < emulator.max_in_flight <= 16


@pytest.mark.slow
async def test_forty_lists_side_by_side_keep_to_the_limiter():
    async with (
        Emulator(imodels=40, changesets=50, latency=0.002) as emulator,
        client(emulator, limiter=Limiter(concurrency=16)) as itwin,
    ):
        ids = await all_imodels(itwin)
        lists = [itwin.imodels.list_extended_data(id, page_size=10).ahead(8) for id in ids]
        assert await asyncio.gather(*map(collect, lists)) == [list(range(1, 51))] * 40
        assert 1 < emulator.max_in_flight <= 16


@pytest.mark.parametrize("who", ["the platform", "the clock"])
async def test_fifty_lists_with_an_expired_token_cause_one_token_request(who):
    async with (
        Emulator(imodels=50, changesets=12, latency=0.002) as emulator,
        client(emulator) as itwin,
    ):
        ids = await all_imodels(itwin)
        assert emulator.count("token") == 1
        with Clock() as clock:
            if who == "the platform":
                emulator.expire_tokens()
            else:
                clock.forward(3_700)
            lists = [itwin.imodels.list_extended_data(id, page_size=5) for id in ids]
            assert await asyncio.gather(*map(collect, lists)) == [list(range(1, 13))] * 50
        assert emulator.count("token") == 2


@pytest.mark.parametrize("size", [None, 20_000])
@pytest.mark.parametrize("way", ["list", "pages", "merged"])
async def test_an_early_break_leaves_no_task_and_no_connection_in_use(size, way):
    async with (
        Emulator(imodels=6, changesets=100, payload_bytes=size, latency=0.002) as emulator,
        client(emulator) as itwin,
    ):
        ids = await all_imodels(itwin)
        before = asyncio.all_tasks()
        pagers = [itwin.imodels.list_extended_data(id, page_size=20).ahead(8) for id in ids]
        if way == "merged":
            async with merged(pagers) as items:
                async for _ in items:
                    break
        for pager in pagers:
            async for _ in pager if way == "list" else pager.pages():
                break
        assert itwin.limiter.in_use == 0
        await settled(itwin.limiter)
        gc.collect()
        await until(lambda: not emulator._pipeline.in_flight)
        await until(lambda: {t for t in asyncio.all_tasks() if ours(t)} <= before)
        transport = itwin._executor._transport
        assert not transport.open_responses
        assert not transport._http.connector._acquired


def ours(task: asyncio.Task) -> bool:
    return "itwin_async" in task.get_name()
