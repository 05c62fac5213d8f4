"""Lists, sessions and slots, cancelled in both kinds at each await: nothing is left or lost."""

import asyncio

import pytest
from raw_pages import IMODEL, PageServer, client, collect, listing, numbers, settled
from support import PACKAGE, RawServer, answer, cancelled_at_each_await, session_at, until

from itwin_async import Limiter, merged
from itwin_async.limits import rate_limiter_of

WHENS = pytest.mark.parametrize("when", ["waiting", "ready"])


async def nothing_left(itwin) -> None:
    session = itwin._executor
    await settled(itwin.limiter)
    assert itwin._context.budget.reserved == 0
    assert not session.lifecycle.background
    assert not session.lifecycle.scopes
    assert not session._transport.open_responses


@WHENS
@pytest.mark.parametrize("ahead", [0, 1, 16])
@pytest.mark.parametrize("size", [0, 70_000], ids=["small", "large"])
@pytest.mark.parametrize("of", ["items", "pages"])
async def test_a_list_resumes_without_loss(cancel_kind, when, ahead, size, of):
    expected, seen, items = list(range(8)), [], None
    async with (
        PageServer(listing(8, 4, size)) as server,
        client(server, limiter=Limiter(concurrency=4)) as itwin,
    ):
        pager = itwin.imodels.list_extended_data(IMODEL).ahead(ahead)

        async def consume() -> list[int]:
            nonlocal seen, items
            seen, items = [], aiter(pager) if of == "items" else pager.pages()
            async for got in items:
                seen += numbers(got) if of == "pages" else [got.changeset_index]
            return seen

        async def check(number) -> None:
            await nothing_left(itwin)
            assert seen + await collect(pager.resume(items.cursor)) == expected
            if len(seen) < len(expected):
                with pytest.raises(RuntimeError, match="cancelled"):
                    await anext(items)

        awaits, got = await cancelled_at_each_await(cancel_kind, consume, check, when=when)
        assert got == expected
        assert awaits >= 2
        await nothing_left(itwin)


@WHENS
@pytest.mark.parametrize("size", [0, 70_000], ids=["small", "large"])
async def test_a_stream_of_many_lists_leaves_nothing(cancel_kind, when, size):
    async with (
        PageServer(listing(4, 2 if not size else 4, size)) as server,
        client(server, limiter=Limiter(concurrency=4)) as itwin,
    ):
        lists = [itwin.imodels.list_extended_data(IMODEL).ahead(n) for n in (0, 2, 0)]

        async def consume() -> list[int]:
            async with merged(lists, workers=2, buffer=1) as items:
                return numbers([item async for item in items])

        async def check(number) -> None:
            await nothing_left(itwin)

        _, got = await cancelled_at_each_await(cancel_kind, consume, check, when=when)
        assert sorted(got) == sorted([*range(4)] * 3)
        await until(lambda: server.in_flight == 0)


@WHENS
@pytest.mark.parametrize("keep", [False, True], ids=["read", "left open"])
async def test_a_session_is_closed_with_all_it_has(cancel_kind, when, keep, caplog):
    itwin = None
    async with PageServer(listing(8, 8, 70_000)) as server:

        async def use() -> None:
            nonlocal itwin
            async with client(server) as itwin:
                pager = itwin.imodels.list_extended_data(IMODEL)
                if keep:
                    items = aiter(pager)
                    await anext(items)
                else:
                    await collect(pager)

        async def check(number) -> None:
            assert itwin.closed
            await nothing_left(itwin)
            await until(lambda: server.open == 0)
            assert not caplog.records

        awaits, _ = await cancelled_at_each_await(cancel_kind, use, check, when=when)
        await check(awaits)
        assert awaits >= 2


@WHENS
async def test_closing_a_session_closes_it(cancel_kind, when, caplog):
    """Whatever becomes of waiting for the sockets: they are closed before."""
    itwin = None
    async with RawServer(answer(PACKAGE)) as server:

        async def use() -> None:
            itwin_now = itwin
            await itwin_now.aclose()

        async def renew() -> None:
            nonlocal itwin
            itwin = session_at(server)
            await asyncio.gather(*(itwin.packages.get_package("P") for _ in range(3)))
            assert server.open == 3

        async def check(number) -> None:
            assert itwin.closed
            await until(lambda: server.open == 0)
            await renew()
            assert not caplog.records

        await renew()
        awaits, _ = await cancelled_at_each_await(cancel_kind, use, check, when=when)
        assert awaits >= 1


@WHENS
async def test_a_slot_goes_on_to_who_waits_behind(cancel_kind, when):
    limiter = Limiter(1)
    rate_limiter = rate_limiter_of(limiter)

    async def use() -> None:
        for acquire in (rate_limiter.acquire, rate_limiter.acquire_read):
            held = rate_limiter.acquire_now()
            asyncio.get_running_loop().call_soon(held.release)
            slot = await acquire()
            try:
                await asyncio.sleep(0)
            finally:
                slot.release()

    async def check(number) -> None:
        await settled(limiter)
        assert rate_limiter._in_flight == 0
        slot = await rate_limiter.acquire()
        slot.release()

    awaits, _ = await cancelled_at_each_await(cancel_kind, use, check, when=when)
    assert awaits == 4
