"""Lists are lazy values: they ask for a page when its first item is wanted, and hold no slot."""

import asyncio

import pytest
from raw_pages import (
    IMODEL,
    PATH,
    QUICK,
    client,
    collect,
    numbers,
)

from itwin_async import (
    Limiter,
)
from itwin_async.emulator import Emulator, Status

LIST = "list_extended_data"


# Laziness


async def test_nothing_is_requested_before_iteration(emulator, itwin):
    pager = itwin.imodels.list_extended_data(IMODEL).ahead(4)
    pager.pages()
    aiter(pager)
    await asyncio.sleep(0)
    assert emulator.requests == []


async def test_a_page_is_requested_when_its_first_item_is_wanted(emulator, itwin):
    items = aiter(itwin.imodels.list_extended_data(IMODEL, page_size=5))
    for number in range(25):
        await anext(items)
        assert emulator.count(LIST) == number // 5 + 1


async def test_a_pager_starts_from_the_beginning_each_time(emulator, itwin):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=10)
    assert await collect(pager) == await collect(pager) == list(range(1, 26))
    assert emulator.count(LIST) == 6


async def test_two_iterators_of_one_pager_do_not_disturb_each_other(itwin):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=7)
    one, other = aiter(pager), aiter(pager)
    pairs = [(await anext(one), await anext(other)) for _ in range(25)]
    assert numbers(a for a, _ in pairs) == numbers(b for _, b in pairs) == list(range(1, 26))


async def test_pages_come_whole_with_their_urls(emulator, itwin):
    pages = [page async for page in itwin.imodels.list_extended_data(IMODEL, page_size=10).pages()]
    assert [numbers(page) for page in pages] == [
        list(range(1, 11)), list(range(11, 21)), list(range(21, 26))
    ]  # fmt: skip
    assert [page.url for page in pages[1:]] == [page.next_url for page in pages[:-1]]
    assert pages[-1].next_url is None
    targets = [entry.target for entry in emulator.requests if entry.operation == LIST]
    assert [page.url for page in pages] == [f"{emulator.url}{target}" for target in targets]


async def test_pages_are_requested_one_at_a_time(emulator, itwin):
    pages = itwin.imodels.list_extended_data(IMODEL, page_size=10).pages()
    for count in (1, 2, 3):
        await anext(pages)
        assert emulator.count(LIST) == count


async def test_the_first_request_names_neither_skip_nor_token(emulator, itwin):
    owner = (await itwin.imodels.get_imodel(IMODEL)).itwin_id
    for pager in (
        itwin.imodels.list_extended_data(IMODEL),
        itwin.imodels.list_changesets(IMODEL),
        itwin.imodels.list_imodels(owner),
        itwin.extensions.list_extensions(),
        itwin.itwins.list_itwins(),
    ):
        emulator.requests.clear()
        await anext(aiter(pager))
        assert not {"$skip", "$continuationToken"} & set(emulator.requests[0].query)


async def test_every_page_is_asked_for_with_the_same_headers(emulator, itwin):
    await anext(aiter(itwin.itwins.list_itwins()))
    emulator.requests.clear()
    pager = itwin.imodels.list_changesets(IMODEL, representation=True, page_size=5)
    assert len([item async for item in pager]) == 25
    sent = [(entry.headers["Prefer"], entry.headers["Accept"]) for entry in emulator.requests]
    assert sent == [
        ("return=representation", "application/vnd.bentley.itwin-platform.v2+json")
    ] * 5  # fmt: skip


# Nothing is held while the consumer thinks


@pytest.mark.parametrize("ahead", [0, 1, 16])
async def test_a_list_in_a_list_works_with_one_slot(emulator, ahead):
    async with client(emulator, limiter=Limiter(concurrency=1)) as itwin, asyncio.timeout(20):
        owner = (await itwin.imodels.get_imodel(IMODEL)).itwin_id
        found = 0
        async for imodel in itwin.imodels.list_imodels(owner, page_size=1).ahead(ahead):
            changes = itwin.imodels.list_changesets(imodel.id, page_size=10)
            async for change in changes.ahead(ahead):
                assert itwin.limiter.in_use == 0
                if change.index % 10 == 0:
                    await itwin.imodels.get_extended_data(imodel.id, change.id)
                found += 1
    assert found == 25 * 6  # all six belong to the one iTwin that is no account


async def test_more_open_lists_than_slots_do_not_wait_for_each_other(emulator):
    async with client(emulator, limiter=Limiter(concurrency=2)) as itwin, asyncio.timeout(20):
        lists = [aiter(itwin.imodels.list_extended_data(IMODEL, page_size=5)) for _ in range(40)]
        for number in range(25):
            got = numbers([await anext(items) for items in lists])
            assert got == [number + 1] * 40
    assert emulator.max_in_flight <= 2


async def test_the_repr_of_lists_and_pages_is_short(itwin):
    pager = itwin.imodels.list_extended_data(IMODEL)
    assert repr(pager) == f"Pager(GET {PATH})"
    assert repr(await anext(pager.pages())).startswith("Page(25 items, http://127.0.0.1:")


@pytest.mark.parametrize("pages", [-1, 1.5, "2", True])
async def test_ahead_wants_a_count(itwin, pages):
    with pytest.raises((TypeError, ValueError), match="pages must be"):
        itwin.imodels.list_extended_data(IMODEL).ahead(pages)


async def test_one_retry_more_than_needed_is_not_sent(emulator):
    emulator.faults.add(LIST, Status(503), times=1)
    async with client(emulator, retry=QUICK) as itwin:
        await collect(itwin.imodels.list_extended_data(IMODEL))
    assert emulator.count(LIST) == 2


async def test_an_emulator_of_many_pages_is_read_in_order():
    async with (
        Emulator(imodels=1, changesets=300, max_items=7) as emulator,
        client(emulator) as itwin,
    ):
        assert await collect(itwin.imodels.list_extended_data(IMODEL)) == list(range(1, 301))
