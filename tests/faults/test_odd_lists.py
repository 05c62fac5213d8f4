"""Lists that change while they are read, and one bad item among thousands."""

import base64

import pytest
from raw_pages import IMODEL, PATH, PageServer, client, collect, entries, entry, page

from itwin_async import PayloadError

PER = 10


def growing(total: int, grow: int, rounds: int):
    """A list to which each of the first requests adds entries."""
    size = total

    async def answer(call) -> None:
        nonlocal size
        if call.number < rounds:
            size += grow
        first = call.skip
        more = first + PER < size
        link = f"{PATH}?$skip={first + PER}" if more else None
        await call.body(page(entries(first, max(0, min(PER, size - first))), link))

    return answer


@pytest.mark.parametrize("ahead", [0, 4])
async def test_a_list_that_grows_while_it_is_read_ends_with_all_of_it(ahead):
    async with PageServer(growing(35, 7, 5)) as server, client(server) as itwin:
        got = await collect(itwin.imodels.list_extended_data(IMODEL).ahead(ahead))
    assert got[:35] == list(range(35))
    assert got == list(range(len(got)))
    assert len(got) > 35


@pytest.mark.parametrize("ahead", [0, 4])
async def test_a_list_that_shrinks_while_it_is_read_ends(ahead):
    async with PageServer(growing(100, -15, 4)) as server, client(server) as itwin:
        got = await collect(itwin.imodels.list_extended_data(IMODEL).ahead(ahead))
        assert len(server.calls) <= 10 + ahead
    assert got == list(range(len(got)))


@pytest.mark.parametrize("ahead", [0, 4])
async def test_an_entry_on_two_pages_is_given_as_often_as_it_was_sent(ahead):
    """An insert moves an entry to the next page; which of two is meant, only the caller knows."""
    pages = {0: [0, 1, 2], 3: [2, 3, 4], 6: [7, 5]}

    async def answer(call) -> None:
        first = call.skip
        link = f"{PATH}?$skip={first + 3}" if first + 3 in pages else None
        await call.body(page([entry(index) for index in pages.get(first, [])], link))

    async with PageServer(answer) as server, client(server) as itwin:
        got = await collect(itwin.imodels.list_extended_data(IMODEL).ahead(ahead))
    assert got == [0, 1, 2, 2, 3, 4, 7, 5]


@pytest.mark.parametrize("size", [0, 3_000], ids=["small", "large"])
async def test_one_poisoned_entry_of_ten_thousand_costs_itself_and_names_its_place(size):
    poisoned, per = 7_777, 1_000

    async def answer(call) -> None:
        first = call.skip
        items = entries(first, per, size if first == 7_000 else 0)
        for item in items:
            if item["changesetIndex"] == poisoned:
                item["data"] = base64.b64encode(b"no JSON").decode()
        link = f"{PATH}?$skip={first + per}" if first + per < 10_000 else None
        await call.body(page(items, link))

    good, bad = 0, []
    async with PageServer(answer) as server, client(server) as itwin:
        async for item in itwin.imodels.list_extended_data(IMODEL):
            try:
                assert item.data["n"] == item.changeset_index
                good += 1
            except PayloadError as error:
                bad.append(error)
    assert good == 9_999
    assert [error.changeset_index for error in bad] == [poisoned]
    assert (bad[0].imodel_id, bad[0].changeset_id) == (IMODEL, f"{poisoned:040x}")
