"""Prefetched pages fit in the budget of bytes, and end with their list."""

import asyncio
import gc
import weakref

import pytest
from prefetching import Held
from raw_pages import (
    IMODEL,
    PATH,
    PageServer,
    at_rest,
    client,
    collect,
    entries,
    listing,
    page,
    settled,
)
from support import cancelled_at_each_await, until

from itwin_async import Limiter

# Room


@pytest.mark.slow
async def test_prefetches_fit_in_buffer_bytes():
    async with (
        PageServer(listing(300, 5, 3_000)) as server,
        client(server, buffer_bytes=70_000, limiter=Limiter(concurrency=32)) as itwin,
    ):
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(16))
        for index in range(12):
            for _ in range(5):
                await anext(items)
            assert await at_rest(server) <= index + 1 + 3  # a page has 20,6 KB
        assert len(server.calls) == 15
        await items.aclose()


async def test_all_lists_together_fit_in_buffer_bytes():
    answer = Held(200, 3_000)
    async with (
        PageServer(answer) as server,
        client(server, buffer_bytes=70_000, limiter=Limiter(concurrency=32)) as itwin,
    ):
        lists = [aiter(itwin.imodels.list_extended_data(IMODEL).ahead(16)) for _ in range(10)]
        for items in lists:
            await anext(items)
        assert await at_rest(server) == 10 + 3
        for items in lists:
            await items.aclose()
        assert itwin._context.budget.reserved == 0


async def test_without_room_nothing_is_prefetched():
    async with PageServer(listing(50, 5)) as server, client(server, buffer_bytes=0) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(16))
        for index in range(50):
            assert (await anext(items)).changeset_index == index
            assert len(server.calls) == index // 5 + 1
            if index % 20 == 0:
                assert await at_rest(server) == index // 5 + 1


@pytest.mark.parametrize("room", [2_000, 60_000, 400_000])
async def test_pages_that_grow_beyond_the_room_are_asked_for_properly(room):
    async def answer(call) -> None:
        first = call.skip
        link = f"{PATH}?$skip={first + 5}" if first < 95 else None
        await call.body(page(entries(first, 5, 200 * first), link))

    async with PageServer(answer) as server, client(server, buffer_bytes=room) as itwin:
        seen, most = [], 0
        async for item in itwin.imodels.list_extended_data(IMODEL).ahead(8):
            seen.append(item.changeset_index)
            await asyncio.sleep(0)
            most = max(most, itwin._context.budget.reserved)
        assert seen == list(range(100))
        assert most <= room
        assert itwin._context.budget.reserved == 0
        await settled(itwin.limiter)


# SessionLifecycle


@pytest.mark.parametrize("way", ["break", "aclose", "drop", "cancel", "error"])
async def test_the_end_of_a_list_cancels_its_prefetches_now(way):
    answer = Held()
    async with PageServer(answer) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL).ahead(8)
        lists = [aiter(pager) for _ in range(5)]
        for items in lists:
            await anext(items)
        await until(lambda: server.in_flight == 5)
        assert itwin.limiter.in_use == 5
        if way == "break":
            for items in lists:
                async for _ in items:
                    break
            items = None
            lists.clear()
        elif way == "aclose":
            for items in lists:
                await items.aclose()
        elif way == "drop":
            del items
            lists.clear()
        else:
            tasks = [asyncio.create_task(consume(items, way)) for items in lists]
            await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            del items, tasks, task
            lists.clear()
        assert itwin.limiter.in_use == 0
        assert itwin._context.budget.reserved == 0
        await until(lambda: server.open == 0)


async def consume(items, way: str) -> None:
    async for _ in items:
        if way == "error":
            return


async def test_a_session_closed_with_prefetches_out_leaves_nothing():
    answer = Held()
    async with PageServer(answer) as server:
        async with client(server) as itwin:
            items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(8))
            await anext(items)
            await until(lambda: server.in_flight == 1)
        assert itwin.limiter.in_use == 0
        await until(lambda: server.open == 0)
        with pytest.raises(RuntimeError, match="closed"):
            async for _ in items:
                pass


@pytest.mark.parametrize("read", [1, 12])
async def test_a_dropped_list_that_read_ahead_keeps_nothing(read):
    async with PageServer(listing(100, 5)) as server:
        itwin, gone = client(server), []
        weakref.finalize(itwin._executor, gone.append, True)
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(4))
        for _ in range(read):
            await anext(items)
        gc.collect()
        gc.disable()  # dropping the last reference is enough
        try:
            del itwin, items
            for _ in range(3):  # a cancelled request needs a turn of the loop to end
                await asyncio.sleep(0)
            assert gone
        finally:
            gc.enable()


@pytest.mark.parametrize("when", ["waiting", "ready"])
async def test_a_list_cancelled_at_any_await_gives_its_room_back(cancel_kind, when):
    """Also while a large page, which was asked for ahead and is in, is taken apart."""
    async with (
        PageServer(listing(10, 5, 60_000)) as server,
        client(server, limiter=Limiter(concurrency=4)) as itwin,
    ):
        pager = itwin.imodels.list_extended_data(IMODEL).ahead(2)

        async def check(number) -> None:
            await settled(itwin.limiter)
            assert itwin._context.budget.reserved == 0
            assert not itwin._executor.lifecycle.background
            assert not itwin._executor.lifecycle.scopes
            assert not itwin._executor._transport.open_responses

        awaits, got = await cancelled_at_each_await(
            cancel_kind, lambda: collect(pager), check, when=when
        )
        assert got == list(range(10))
        assert awaits >= 4  # fewer where more had come at once


async def test_a_prefetch_that_is_cancelled_before_it_began_makes_nobody_wait():
    async with PageServer(listing(20, 5)) as server, client(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(4))
        seen = [(await anext(items)).changeset_index]  # and asks for the next page
        for task in asyncio.all_tasks():
            if "read-ahead" in task.get_name():
                task.cancel()
        async with asyncio.timeout(10):
            seen += [item.changeset_index async for item in items]
        assert seen == list(range(20))
        await settled(itwin.limiter)
        assert itwin._context.budget.reserved == 0
