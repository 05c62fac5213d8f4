"""A cursor taken at the end of a list in order of age gives what was added since."""

import base64
import bisect
import json

import pytest
from large_pages import LARGE
from raw_pages import IMODEL, Call, PageServer, client, collect, entry, numbers, page
from support import cancelled_at_each_await

LIST = "list_extended_data"


class Growing:
    """A list of extended data that grows between two looks, in pages of ``per`` entries."""

    def __init__(self, indexes, per: int, size: int = 0) -> None:
        self.indexes = list(indexes)
        self.per = per
        self.size = size

    def add(self, *indexes: int) -> None:
        for index in indexes:
            bisect.insort(self.indexes, index)

    async def __call__(self, call: Call) -> None:
        shown = self.indexes[call.skip : call.skip + self.per]
        behind = call.skip + self.per
        more = behind < len(self.indexes)
        here = call.target.partition("?")[0]
        link = f"{call.server.url}{here}?$skip={behind}&$top={self.per}" if more else None
        await call.body(page([entry(index, self.size) for index in shown], link))


async def end_of(pager) -> tuple[list[int], str]:
    async with aiter(pager) as items:
        given = [item.changeset_index async for item in items]
        return given, items.cursor


@pytest.mark.parametrize("ahead", [0, 1, 16])
@pytest.mark.parametrize("size", [0, LARGE])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 10])
async def test_the_end_gives_what_was_added_since_and_once(count, size, ahead):
    shown = Growing(range(count), 5, size)
    async with PageServer(shown) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL).ahead(ahead)
        given, cursor = await end_of(pager)
        assert given == list(range(count))
        for added in (1, 0, 3, 7, 0):
            start = len(shown.indexes)
            shown.add(*range(start, start + added))
            given, cursor = await end_of(pager.resume(cursor))
            assert given == list(range(start, start + added))


async def test_the_last_page_alone_is_read_again(emulator, itwin):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=10)
    _, cursor = await end_of(pager)
    assert emulator.count(LIST) == 3
    assert await end_of(pager.resume(cursor)) == ([], cursor)
    assert [page async for page in pager.resume(cursor).pages()] == []
    assert emulator.count(LIST) == 5
    assert all("$skip=20" in request.target for request in emulator.requests[-2:])


async def test_it_is_small_whatever_the_page_holds():
    shown = Growing(range(900), 1_000)
    async with PageServer(shown) as server, client(server) as itwin:
        _, cursor = await end_of(itwin.imodels.list_extended_data(IMODEL, page_size=1_000))
        assert len(cursor) < 220


@pytest.mark.parametrize("size", [0, LARGE])
async def test_every_state_of_the_iterator_has_a_cursor_that_goes_on(size):
    shown = Growing(range(6), 4, size)
    async with PageServer(shown) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        _, end = await end_of(pager)
        shown.add(*range(6, 13))
        for first, start in ((0, pager), (6, pager.resume(end))):
            async with aiter(start) as items:
                for at in range(first, 13):
                    assert await collect(pager.resume(items.cursor).take(1)) == [at]
                    await anext(items)
                before = items.cursor
                assert await collect(pager.resume(before)) == []
                assert await anext(items, None) is None
                behind = items.cursor
            closed = items.cursor
            shown.add(99)
            for cursor in (before, behind, closed):
                assert await collect(pager.resume(cursor)) == [99]
            shown.indexes.remove(99)


async def test_pages_go_on_as_items_do():
    shown = Growing(range(12), 5)
    async with PageServer(shown) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        pages = pager.pages()
        last = [page async for page in pages][-1]
        assert last.cursor == pages.cursor
        shown.add(*range(12, 21))
        since = [page async for page in pager.resume(last.cursor).pages()]
        assert [numbers(page) for page in since] == [[12, 13, 14], [15, 16, 17, 18, 19], [20]]
        assert await collect(pager.resume(since[0].cursor)) == list(range(15, 21))


async def test_a_full_last_page_goes_on_behind_it_without_an_empty_page():
    shown = Growing(range(10), 5)
    async with PageServer(shown) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        cursor = [page async for page in pager.pages()][-1].cursor
        shown.add(10, 11)
        since = [numbers(page) async for page in pager.resume(cursor).pages()]
        assert since == [[10, 11]]


async def test_what_is_taken_of_it_goes_on():
    shown = Growing(range(7), 5)
    async with PageServer(shown) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        _, cursor = await end_of(pager.take(7))
        shown.add(*range(7, 16))
        given, cursor = await end_of(pager.take(4).resume(cursor))
        assert given == [7, 8, 9, 10]
        assert await collect(pager.take(4).resume(cursor)) == [11, 12, 13, 14]
        assert (await pager.resume(cursor).first()).changeset_index == 11


@pytest.mark.parametrize(("before", "after"), [(10, 4), (4, 10), (3, 1_000)])
async def test_it_holds_for_another_page_size(before, after):
    shown = Growing(range(17), before)
    async with PageServer(shown) as server, client(server) as itwin:
        _, cursor = await end_of(itwin.imodels.list_extended_data(IMODEL, page_size=before))
        shown.per = after
        shown.add(*range(17, 29))
        pager = itwin.imodels.list_extended_data(IMODEL, page_size=after)
        assert await collect(pager.resume(cursor)) == list(range(17, 29))


@pytest.mark.parametrize("size", [0, LARGE])
@pytest.mark.parametrize("late", [1, 3, 4, 5, 11])
async def test_data_stored_late_before_the_end_does_not_come_and_nothing_comes_twice(late, size):
    """It moves the last entry, which is found by its fingerprint, also on a later page."""
    shown = Growing(range(100, 112), 5, size)
    async with PageServer(shown) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        _, cursor = await end_of(pager)
        shown.add(*range(late), 200, 201)
        given, cursor = await end_of(pager.resume(cursor))
        assert given == [200, 201]
        shown.add(202)
        assert await collect(pager.resume(cursor)) == [202]


async def test_where_the_last_entry_is_gone_the_place_counts():
    shown = Growing(range(12), 5)
    async with PageServer(shown) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        _, cursor = await end_of(pager)
        shown.indexes.remove(11)
        shown.add(*range(20, 28))
        assert await collect(pager.resume(cursor)) == list(range(21, 28))


async def test_an_empty_last_page_does_not_hide_where_the_list_ended():
    shown = Growing(range(10, 15), 5)

    async def answer(call: Call) -> None:
        here = call.target.partition("?")[0]
        link = f"{call.server.url}{here}?$skip=5&$top=5" if not call.skip else None
        part = shown.indexes[call.skip : call.skip + 5]
        await call.body(page([entry(index) for index in part], link))

    async with PageServer(answer) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        given, cursor = await end_of(pager)
        assert given == list(range(10, 15))
        shown.add(3)
        assert await collect(pager.resume(cursor)) == []
        shown.add(17)
        assert await collect(pager.resume(cursor)) == [17]


@pytest.mark.parametrize("when", ["waiting", "ready"])
@pytest.mark.parametrize("late", [0, 9])
async def test_cancelled_at_each_await_it_loses_nothing(cancel_kind, when, late):
    shown = Growing(range(100, 106), 4, LARGE)
    async with PageServer(shown) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        _, end = await end_of(pager)
        shown.add(*range(late), *range(106, 109))
        given: list[int] = []

        async def read() -> None:
            given.clear()
            nonlocal items
            items = aiter(pager.resume(end))
            async for item in items:
                given.append(item.changeset_index)

        async def check(_: int) -> None:
            rest = await collect(pager.resume(items.cursor))
            assert given + rest == list(range(106, 109))

        items = aiter(pager)
        awaits, _ = await cancelled_at_each_await(cancel_kind, read, check, when=when)
        assert awaits >= 2


@pytest.mark.parametrize("order", [None, "asc"])
async def test_changesets_go_on(emulator, itwin, order):
    pager = itwin.imodels.list_changesets(IMODEL, page_size=10, order=order)
    async with aiter(pager) as items:
        assert [item.index async for item in items] == list(range(1, 26))
    emulator.push_changeset(IMODEL)
    assert [item.index async for item in pager.resume(items.cursor)] == [26]


async def test_versions_of_an_extension_go_on(emulator, itwin):
    extension = await itwin.extensions.list_extensions().first()
    assert extension is not None
    pager = itwin.extensions.list_versions(extension.id, page_size=3)
    async with aiter(pager) as items:
        before = [item.number async for item in items]
    assert [item.number async for item in pager.resume(items.cursor)] == []
    emulator.publish(extension.id, "99.0.0", files={"main.js": b"1"})
    assert [item.number async for item in pager.resume(items.cursor)] == ["99.0.0"]
    assert "99.0.0" not in before


@pytest.mark.parametrize("lists", ["list_imodels", "newest first"])
async def test_a_list_in_another_order_ends_for_good(emulator, itwin, lists):
    if lists == "list_imodels":
        found = await itwin.itwins.list_itwins(sub_class="Project").first()
        assert found is not None
        pager = itwin.imodels.list_imodels(found.id)
    else:
        pager = itwin.imodels.list_changesets(IMODEL, order="desc")
    async with aiter(pager) as items:
        assert [item async for item in items]
    sent = len(emulator.requests)
    assert [item async for item in pager.resume(items.cursor)] == []
    assert len(emulator.requests) == sent


def parts_of(cursor: str) -> list:
    return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))


def forged(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


async def test_a_finished_cursor_of_an_earlier_version_still_ends(emulator, itwin):
    pager = itwin.imodels.list_extended_data(IMODEL)
    digest = parts_of(aiter(pager).cursor)[1]
    assert await collect(pager.resume(forged(1, digest, None, 0))) == []
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("version", "place"),
    [(1, ("/a", 1, "f")), (2, ("/a", 1)), (2, (None, 1, "f")), (2, ("/a", 1, 5)), (3, ("/a", 1)),
     (2, ("/a", -1, "f")), (2, ("/a", 1, "f", "g"))],
)  # fmt: skip
async def test_a_forged_end_is_refused(itwin, version, place):
    pager = itwin.imodels.list_extended_data(IMODEL)
    digest = parts_of(aiter(pager).cursor)[1]
    with pytest.raises(ValueError, match="cursor must be a cursor that this library gave"):
        pager.resume(forged(version, digest, *place))
