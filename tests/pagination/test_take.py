"""`Pager.take` and `Pager.first`: the beginning of a list, and no page beyond it."""

import pytest
from large_pages import LARGE
from prefetching import LIST
from raw_pages import (
    IMODEL,
    PageServer,
    at_rest,
    client,
    collect,
    listing,
    numbers,
)
from support import until

from itwin_async import Limiter


@pytest.mark.parametrize(
    ("n", "pages"), [(0, 0), (1, 1), (4, 1), (5, 1), (6, 2), (10, 2), (25, 5), (99, 5)]
)
@pytest.mark.parametrize("ahead", [0, 1, 16])
async def test_take_gives_the_first_items_and_requests_their_pages_alone(
    emulator, itwin, n, pages, ahead
):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=5).take(n).ahead(ahead)
    assert await collect(pager) == list(range(1, min(n, 25) + 1))
    assert emulator.count(LIST) == pages


async def test_take_requests_nothing_until_it_is_iterated(emulator, itwin):
    aiter(itwin.imodels.list_extended_data(IMODEL).take(3).ahead(2))
    assert emulator.requests == []


@pytest.mark.parametrize("n", [0, 1, 4, 5, 7, 10, 25, 40])
async def test_the_cursor_behind_the_taken_items_resumes_with_the_next_one(emulator, itwin, n):
    whole = itwin.imodels.list_extended_data(IMODEL, page_size=5)
    async with aiter(whole.take(n)) as items:
        taken = numbers([item async for item in items])
        assert taken + await collect(whole.resume(items.cursor)) == list(range(1, 26))
        following = await collect(whole.take(3).resume(items.cursor))
        assert following == list(range(1, 26))[n : n + 3]


async def test_the_cursor_is_right_at_every_item(itwin):
    whole = itwin.imodels.list_extended_data(IMODEL, page_size=5)
    async with aiter(whole.take(7)) as items:
        for number in range(1, 8):
            await anext(items)
            assert await collect(whole.resume(items.cursor).take(1)) == [number + 1]


@pytest.mark.parametrize(
    ("n", "lengths"), [(0, []), (3, [3]), (5, [5]), (7, [5, 2]), (30, [5] * 5)]
)
@pytest.mark.parametrize("ahead", [0, 1, 16])
async def test_pages_of_taken_items_end_with_a_shorter_one(emulator, itwin, n, lengths, ahead):
    whole = itwin.imodels.list_extended_data(IMODEL, page_size=5)
    pages = [page async for page in whole.ahead(ahead).take(n).pages()]
    assert [len(page) for page in pages] == lengths
    assert emulator.count(LIST) == len(lengths)
    if pages:
        assert pages[-1].next_url is None
        assert await collect(whole.resume(pages[-1].cursor)) == list(range(n + 1, 26))


async def test_the_smaller_of_two_limits_counts(itwin):
    whole = itwin.imodels.list_extended_data(IMODEL)
    assert await collect(whole.take(3).take(9)) == await collect(whole.take(9).take(3)) == [1, 2, 3]


async def test_an_exhausted_limit_stays_at_its_end(emulator, itwin):
    items = aiter(itwin.imodels.list_extended_data(IMODEL, page_size=5).take(2))
    assert [await anext(items, None) for _ in range(5)][2:] == [None] * 3
    assert emulator.count(LIST) == 1


@pytest.mark.parametrize("ahead", [0, 1, 16])
async def test_a_large_page_is_closed_behind_the_last_taken_item(ahead):
    async with (
        PageServer(listing(40, 10, LARGE)) as server,
        client(server, limiter=Limiter(concurrency=8)) as itwin,
    ):
        whole = itwin.imodels.list_extended_data(IMODEL)
        items = aiter(whole.take(2).ahead(ahead))
        assert numbers([await anext(items), await anext(items)]) == [0, 1]
        await until(lambda: server.open == 0)
        assert await anext(items, None) is None
        assert await at_rest(server) == 1
        assert await collect(whole.resume(items.cursor).take(1)) == [2]


@pytest.mark.parametrize("n", [11, 25, 30])
async def test_read_ahead_of_large_pages_stays_within_the_limit(n):
    async with (
        PageServer(listing(100, 10, LARGE)) as server,
        client(server, limiter=Limiter(concurrency=8)) as itwin,
    ):
        pager = itwin.imodels.list_extended_data(IMODEL).take(n).ahead(8)
        assert await collect(pager) == list(range(n))
        assert await at_rest(server) == -(-n // 10)


async def test_first_is_the_first_item_or_none(emulator, itwin):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=5)
    assert numbers([await pager.first()]) == [1]
    assert numbers([await pager.ahead(8).first()]) == [1]
    assert emulator.count(LIST) == 2
    assert await pager.take(0).first() is None


async def test_first_of_an_empty_list_is_none():
    async with PageServer(listing(0, 5)) as server, client(server) as itwin:
        assert await itwin.imodels.list_extended_data(IMODEL).first() is None
        assert await at_rest(server) == 1


async def test_first_closes_the_large_page_that_it_opened():
    async with PageServer(listing(40, 10, LARGE)) as server, client(server) as itwin:
        assert numbers([await itwin.imodels.list_extended_data(IMODEL).ahead(4).first()]) == [0]
        await until(lambda: server.open == 0)
        assert await at_rest(server) == 1


@pytest.mark.parametrize("n", [-1, True, 1.0, None, "3"])
async def test_take_refuses_what_is_no_count(itwin, n):
    with pytest.raises((TypeError, ValueError), match=r"^n must be "):
        itwin.imodels.list_extended_data(IMODEL).take(n)
