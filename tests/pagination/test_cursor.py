"""A cursor says where a list goes on, and loses nothing."""

import asyncio
import base64
import json

import pytest
from raw_pages import (
    IMODEL,
    PageServer,
    client,
    collect,
    entries,
    listing,
    numbers,
    page,
)
from support import until

from itwin_async import (
    Retry,
    TransportError,
)
from itwin_async.emulator import Status

LIST = "list_extended_data"
AHEAD = pytest.mark.parametrize("ahead", [0, 1, 16])


@AHEAD
async def test_a_cursor_resumes_at_every_item(itwin, ahead):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=4).ahead(ahead)
    items = aiter(pager)
    cursors = [items.cursor]
    async for _ in items:
        cursors.append(items.cursor)
    assert len(cursors) == 26
    for done, cursor in enumerate(cursors):
        assert await collect(pager.resume(cursor)) == list(range(done + 1, 26))


@AHEAD
async def test_a_cursor_resumes_inside_a_large_page(ahead):
    async with PageServer(listing(12, 6, 100_000)) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL).ahead(ahead)
        items = aiter(pager)
        cursors = [items.cursor]
        async for _ in items:
            cursors.append(items.cursor)
        for done, cursor in enumerate(cursors):
            assert await collect(pager.resume(cursor)) == list(range(done, 12))


@AHEAD
async def test_a_resumed_list_gives_the_same_cursors(itwin, ahead):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=4).ahead(ahead)
    first, cursors = aiter(pager), []
    async for _ in first:
        cursors.append(first.cursor)
    second = aiter(pager.resume(cursors[5]))
    assert second.cursor == cursors[5]
    again = []
    async for _ in second:
        again.append(second.cursor)
    assert again == cursors[6:]


@AHEAD
async def test_a_pages_cursor_resumes_behind_the_page(itwin, ahead):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=10).ahead(ahead)
    rests = [await collect(pager.resume(page.cursor)) async for page in pager.pages()]
    assert rests == [list(range(11, 26)), list(range(21, 26)), []]


async def test_the_page_iterators_cursor_is_that_of_its_last_page(itwin):
    pages = itwin.imodels.list_extended_data(IMODEL, page_size=10).pages()
    async for item in pages:
        assert pages.cursor == item.cursor


@AHEAD
async def test_pages_resumed_inside_a_page_begin_with_its_rest(itwin, ahead):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=10).ahead(ahead)
    items = aiter(pager)
    for _ in range(13):
        await anext(items)
    pages = pager.resume(items.cursor).pages()
    assert [numbers(page) async for page in pages] == [list(range(14, 21)), list(range(21, 26))]


async def test_a_cursor_holds_for_another_page_size_and_session(emulator, itwin):
    items = aiter(itwin.imodels.list_extended_data(IMODEL, page_size=4))
    for _ in range(6):
        await anext(items)
    async with client(emulator) as other:
        rest = other.imodels.list_extended_data(IMODEL, page_size=9).resume(items.cursor)
        assert await collect(rest) == list(range(7, 26))


@pytest.mark.parametrize("taken", [1, 3, 10, 13])
@AHEAD
async def test_a_cursor_read_after_closing_loses_nothing(itwin, taken, ahead):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=10).ahead(ahead)
    async with aiter(pager) as items:
        for _ in range(taken):
            await anext(items)
        before = items.cursor
    assert await collect(pager.resume(items.cursor)) == list(range(taken + 1, 26))
    assert items.cursor == before


@AHEAD
async def test_a_cursor_read_after_an_error_loses_nothing(emulator, itwin, ahead):
    emulator.faults.add(LIST, Status(403), times=1 + min(ahead, 1), after=1)
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=10).ahead(ahead)
    items, seen = aiter(pager), []
    with pytest.raises(Exception, match="403"):
        async for item in items:
            seen.append(item.changeset_index)
    assert seen + await collect(pager.resume(items.cursor)) == list(range(1, 26))


async def test_a_cursor_of_pages_read_after_a_page_failed_in_the_middle_loses_nothing():
    text, broken = page(entries(0, 8, 100_000)), True

    async def answer(call) -> None:
        await (call.cut(text, len(text) * 3 // 4) if broken else call.body(text))

    retry = Retry(attempts=1)
    async with PageServer(answer) as server, client(server, retry=retry) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        pages = pager.pages()
        with pytest.raises(TransportError):
            await anext(pages)
        broken = False
        assert await collect(pager.resume(pages.cursor)) == list(range(8))


async def test_a_cursor_read_after_another_task_closed_the_list_loses_nothing():
    gate = asyncio.Event()

    async def answer(call) -> None:
        await gate.wait()
        await call.body(page(entries(0, 5)))

    async with PageServer(answer) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        items = aiter(pager)
        waiting = asyncio.create_task(anext(items))
        await until(lambda: server.calls)
        await items.aclose()
        gate.set()
        with pytest.raises(RuntimeError, match="closed"):
            await waiting
        assert await collect(pager.resume(items.cursor)) == list(range(5))


def forged(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "=", "####", "é", "\x00", "A" * 10_000, forged(), forged(1, "x", None), "bnVsbA",
     forged(2, "x", None, 0), forged(1, "x", None, -1), forged(1, "x", "/a", 1.5), forged(1, 1, 1),
     forged(1, "x", "https://evil.example/", 0)],
)  # fmt: skip
async def test_garbage_is_no_cursor(itwin, cursor):
    with pytest.raises(ValueError, match="cursor"):
        itwin.imodels.list_extended_data(IMODEL).resume(cursor)


@pytest.mark.parametrize("cursor", [None, 5, b"abc"])
async def test_what_is_no_text_is_no_cursor(itwin, cursor):
    with pytest.raises(TypeError, match="cursor"):
        itwin.imodels.list_extended_data(IMODEL).resume(cursor)


@pytest.mark.parametrize("target", ["//evil.example/x", "/a b", "/\r\nX: y", "/" + "a" * 9_000])
async def test_a_cursor_with_a_forged_place_is_refused_as_a_value(itwin, target):
    pager = itwin.imodels.list_extended_data(IMODEL)
    text = aiter(pager).cursor
    real = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    with pytest.raises(ValueError, match="cursor"):
        pager.resume(forged(real[0], real[1], target, 0))


async def test_the_cursor_of_another_list_is_refused(emulator, itwin):
    foreign = aiter(itwin.imodels.list_changesets(IMODEL)).cursor
    narrower = aiter(itwin.imodels.list_changesets(IMODEL, after_index=5)).cursor
    with pytest.raises(ValueError, match="another list"):
        itwin.imodels.list_extended_data(IMODEL).resume(foreign)
    with pytest.raises(ValueError, match="another list"):
        itwin.imodels.list_changesets(IMODEL).resume(narrower)
    assert emulator.requests == []
