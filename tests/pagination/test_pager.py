"""Lists are lazy values: what they ask for, where they go on, and how their iterators end."""

import asyncio
import base64
import gc
import json
import os
import subprocess
import sys
import textwrap

import pytest
from raw_pages import (
    IMODEL,
    PATH,
    QUICK,
    PageServer,
    client,
    collect,
    entries,
    listing,
    numbers,
    page,
    settled,
)
from support import until

from itwin_async import (
    DecodeError,
    ITwinError,
    Limiter,
    LinkError,
    Retry,
    ServerError,
    TransportError,
)
from itwin_async.emulator import Cut, Edit, Emulator, Status

LIST = "list_extended_data"


def chain(*pages: tuple[int, object]):
    """Pages by number of items and next link; a link ``->n`` leads to page n."""

    async def answer(call) -> None:
        _, _, nth = call.target.partition("page=")
        at = int(nth or 0)
        count, following = pages[at]
        if isinstance(following, str) and following.startswith("->"):
            following = f"{call.server.url}{PATH}?page={following[2:]}"
        await call.body(page(entries(at * 100, count), following))

    return answer


async def gathered(pager) -> tuple[list[int], Exception | None]:
    """What a list gives, and the error it ends with."""
    seen: list[int] = []
    try:
        async for item in pager:
            seen.append(item.changeset_index)
    except ITwinError as error:
        return seen, error
    return seen, None


# Laziness


async def test_nothing_is_requested_before_iteration(emulator, itwin):
    pager = itwin.imodels.list_extended_data(IMODEL).ahead(4)
    pager.pages()
    aiter(pager)
    await asyncio.sleep(0)
    assert emulator.requests == []


async def test_a_page_is_requested_when_its_first_item_is_wanted(emulator, itwin):
    items = aiter(itwin.imodels.list_extended_data(IMODEL, page_size=5))
    for nth in range(25):
        await anext(items)
        assert emulator.count(LIST) == nth // 5 + 1


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
    targets = [each.target for each in emulator.requests if each.operation == LIST]
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
    sent = [(each.headers["Prefer"], each.headers["Accept"]) for each in emulator.requests]
    assert sent == [
        ("return=representation", "application/vnd.bentley.itwin-platform.v2+json")
    ] * 5  # fmt: skip


# Cursors


@pytest.mark.parametrize("ahead", [0, 3])
async def test_a_cursor_resumes_at_every_item(itwin, ahead):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=4).ahead(ahead)
    items = aiter(pager)
    cursors = [items.cursor]
    async for _ in items:
        cursors.append(items.cursor)
    assert len(cursors) == 26
    for done, cursor in enumerate(cursors):
        assert await collect(pager.resume(cursor)) == list(range(done + 1, 26))


async def test_a_cursor_resumes_inside_a_large_page():
    async with PageServer(listing(12, 6, 100_000)) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        items = aiter(pager)
        cursors = [items.cursor]
        async for _ in items:
            cursors.append(items.cursor)
        for done, cursor in enumerate(cursors):
            assert await collect(pager.resume(cursor)) == list(range(done, 12))


async def test_a_resumed_list_gives_the_same_cursors(itwin):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=4)
    first, cursors = aiter(pager), []
    async for _ in first:
        cursors.append(first.cursor)
    second = aiter(pager.resume(cursors[5]))
    assert second.cursor == cursors[5]
    again = []
    async for _ in second:
        again.append(second.cursor)
    assert again == cursors[6:]


async def test_the_rest_of_a_finished_list_is_empty_and_asks_for_nothing(emulator, itwin):
    pager = itwin.imodels.list_extended_data(IMODEL)
    items = aiter(pager)
    async for _ in items:
        pass
    finished, sent = items.cursor, emulator.count(LIST)
    assert await collect(pager.resume(finished)) == []
    assert [page async for page in pager.resume(finished).pages()] == []
    assert emulator.count(LIST) == sent


async def test_a_pages_cursor_resumes_behind_the_page(itwin):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=10)
    rests = [await collect(pager.resume(page.cursor)) async for page in pager.pages()]
    assert rests == [list(range(11, 26)), list(range(21, 26)), []]


async def test_the_page_iterators_cursor_is_that_of_its_last_page(itwin):
    pages = itwin.imodels.list_extended_data(IMODEL, page_size=10).pages()
    async for each in pages:
        assert pages.cursor == each.cursor


async def test_pages_resumed_inside_a_page_begin_with_its_rest(itwin):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=10)
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
async def test_a_cursor_read_after_closing_loses_nothing(itwin, taken):
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=10)
    async with aiter(pager) as items:
        for _ in range(taken):
            await anext(items)
        before = items.cursor
    assert await collect(pager.resume(items.cursor)) == list(range(taken + 1, 26))
    assert items.cursor == before


async def test_a_cursor_read_after_an_error_loses_nothing(emulator, itwin):
    emulator.faults.add(LIST, Status(403), after=1)
    pager = itwin.imodels.list_extended_data(IMODEL, page_size=10)
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


# Links


async def test_a_link_goes_out_byte_for_byte():
    odd = f"{PATH}?$skip=2&x=%2f%2F%7e~%3A:+%20&&=&y=a%00b&$top=2;,'()*!@"

    async def answer(call) -> None:
        await call.body(page(entries(0, 2), None if call.number else f"{call.server.url}{odd}"))

    async with PageServer(answer) as server, client(server) as itwin:
        await collect(itwin.imodels.list_extended_data(IMODEL))
        assert server.targets == [PATH, odd]


@pytest.mark.parametrize(
    "odd", [f"{PATH}?$skip=1&a=%zz", "/x%2e%2e/./y/../z?q", f"{PATH}?page=1#x"]
)
async def test_a_path_is_not_normalised(odd):
    async def answer(call) -> None:
        await call.body(page(entries(call.number, 1), None if call.number else odd))

    async with PageServer(answer) as server, client(server) as itwin:
        await collect(itwin.imodels.list_extended_data(IMODEL))
        assert server.targets[1] == odd.partition("#")[0]


async def test_a_query_alone_is_a_link_on_the_same_path():
    async def answer(call) -> None:
        await call.body(page(entries(call.number, 1), None if call.number else "?$skip=1"))

    async with PageServer(answer) as server, client(server) as itwin:
        await collect(itwin.imodels.list_extended_data(IMODEL, page_size=1))
        assert server.targets == [f"{PATH}?$top=1", f"{PATH}?$skip=1"]


@pytest.mark.parametrize("host", ["api.bentley.com", "qa-api.bentley.com", "API.bentley.com:443"])
async def test_platform_links_are_followed_on_a_base_of_ones_own(host):
    async def answer(call) -> None:
        link = None if call.number else f"https://{host}{PATH}?$skip=1"
        await call.body(page(entries(call.number, 1), link))

    async with PageServer(answer) as server, client(server) as itwin:
        assert await collect(itwin.imodels.list_extended_data(IMODEL)) == [0, 1]
        assert server.targets == [PATH, f"{PATH}?$skip=1"]


@pytest.mark.parametrize(
    "link",
    ["https://evil.example/x", "//evil.example/x", "https://api.bentley.com@evil.example/",
     "https://api.bentley.com.evil.example/x", "http://api.bentley.com/x", "http://127.0.0.1:1/x",
     "https://127.0.0.1/x", "ftp://api.bentley.com/x", "\\\\evil.example", "/a b", "/\r\nX: y",
     "https://[::1", "https:///x", "x", "/" + "a" * 9_000],
)  # fmt: skip
async def test_a_bad_link_is_an_error_after_the_items(link):
    for ahead in (0, 4):
        async with PageServer(chain((3, link))) as server, client(server) as itwin:
            seen, error = await gathered(itwin.imodels.list_extended_data(IMODEL).ahead(ahead))
            assert seen == [0, 1, 2]
            assert isinstance(error, LinkError)
            assert error.operation == "GET /imodels/{imodel_id}/changesets/extendeddata"
            assert server.targets == [PATH]


async def test_pages_give_the_page_before_a_bad_link():
    link = "https://evil.example/x"
    async with PageServer(chain((3, link))) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        pages = pager.pages()
        only = await anext(pages)
        assert numbers(only) == [0, 1, 2]
        with pytest.raises(LinkError):
            await anext(pages)
        assert isinstance((await gathered(pager.resume(only.cursor)))[1], LinkError)


@pytest.mark.parametrize("links", [..., None, {}, {"next": None}, {"next": {}},
                                   {"next": {"href": None}}, {"self": {"href": "x"}}])  # fmt: skip
async def test_a_list_without_a_next_link_ends(links):
    async def answer(call) -> None:
        body = {"extendedData": entries(0, 2)}
        await call.json(body if links is ... else body | {"_links": links})

    async with PageServer(answer) as server, client(server) as itwin:
        assert await gathered(itwin.imodels.list_extended_data(IMODEL)) == ([0, 1], None)


@pytest.mark.parametrize("links", [{"next": {"href": ""}}, {"next": {"href": 5}}, {"next": 5},
                                   {"next": []}, {"next": {"href": ["/x"]}}])  # fmt: skip
async def test_a_next_link_that_is_no_text_is_an_error(links):
    async def answer(call) -> None:
        await call.json({"extendedData": entries(0, 2), "_links": links})

    async with PageServer(answer) as server, client(server) as itwin:
        seen, error = await gathered(itwin.imodels.list_extended_data(IMODEL))
        assert (seen, type(error)) == ([0, 1], LinkError)


@pytest.mark.parametrize("text", [b"{}", b"[]", b"null", b'{"extendedData":null}', b'"x"', b"",
                                  b'{"extendedData":{}}', b'{"_links":{}}'])  # fmt: skip
async def test_a_page_without_its_list_is_no_end(text):
    async def answer(call) -> None:
        await call.body(text)

    async with PageServer(answer) as server, client(server) as itwin:
        with pytest.raises(DecodeError):
            await collect(itwin.imodels.list_extended_data(IMODEL))
        with pytest.raises(DecodeError):
            await collect(itwin.imodels.list_extended_data(IMODEL).ahead(4))


async def test_the_lists_key_may_be_in_lower_case(emulator, itwin):
    emulator.faults.add(LIST, Edit(lambda page: {
        "extendeddata": page["extendedData"], "_links": page["_links"]}), times=None)  # fmt: skip
    assert len(await collect(itwin.imodels.list_extended_data(IMODEL, page_size=5))) == 25


async def test_an_empty_page_with_a_next_link_is_followed():
    pages = ((0, "->1"), (2, "->2"), (0, "->3"), (0, "->4"), (1, None))
    async with PageServer(chain(*pages)) as server, client(server) as itwin:
        for ahead in (0, 4):
            pager = itwin.imodels.list_extended_data(IMODEL).ahead(ahead)
            assert await collect(pager) == [100, 101, 400]
        lengths = [len(page) async for page in itwin.imodels.list_extended_data(IMODEL).pages()]
        assert lengths == [0, 2, 0, 0, 1]


@pytest.mark.parametrize(
    ("pages", "seen"),
    [(((1, f"{PATH}"),), [0]), (((1, "->0"), (1, None)), [0]), (((0, "->1"), (0, "->1")), []),
     (((1, "->1"), (1, "->2"), (1, "->1")), [0, 100, 200]),
     (((1, "->1"), (0, "->2"), (1, "->3"), (1, "->1")), [0, 200, 300])],
)  # fmt: skip
@pytest.mark.parametrize("ahead", [0, 4])
async def test_a_loop_ends_after_its_items(pages, seen, ahead):
    if len(pages) == 2 and pages[0] == (1, "->0"):
        seen = [0, 0]  # the first address has no query, so the second visit is another address
    async with PageServer(chain(*pages)) as server, client(server) as itwin:
        got, error = await gathered(itwin.imodels.list_extended_data(IMODEL).ahead(ahead))
        assert got == seen
        assert isinstance(error, LinkError)
        assert "loop" in str(error)
        assert len(server.targets) == len(set(server.targets))


async def test_endless_empty_pages_end():
    async def answer(call) -> None:
        await call.body(page([], f"{PATH}?page={call.number + 1}"))

    async with PageServer(answer) as server, client(server) as itwin:
        with pytest.raises(LinkError, match="empty pages"):
            await collect(itwin.imodels.list_extended_data(IMODEL))
        assert 100 <= len(server.calls) <= 2_000


async def test_empty_pages_between_full_ones_are_no_loop(monkeypatch):
    monkeypatch.setattr(
        "itwin_async._pagination.page_reader._EMPTY_IN_A_ROW", 20
    )  # a thousand take their time

    async def answer(call) -> None:
        at = int(call.target.partition("page=")[2] or 0)
        link = f"{PATH}?page={at + 1}" if at < 60 else None
        await call.body(page(entries(at, 1) if at % 15 == 0 else [], link))

    async with PageServer(answer) as server, client(server) as itwin:
        assert await collect(itwin.imodels.list_extended_data(IMODEL)) == [0, 15, 30, 45, 60]


async def test_continuation_tokens_are_followed(emulator):
    def tokens(call):
        return call.operation == "list_changesets" and "$skip" in call.query

    def to_tokens(body):
        link = body["_links"]["next"]
        if link is not None and "$skip" in link["href"]:
            link["href"] = link["href"].replace("$skip=5", "$continuationToken=NQ%3D%3D")

    emulator.faults.add("list_changesets", Edit(to_tokens))
    emulator.faults.add(tokens, Status(400), times=None)
    async with client(emulator) as itwin:
        for _ in range(2):
            pager = itwin.imodels.list_changesets(IMODEL, page_size=5)
            items = aiter(pager)
            taken = [(await anext(items)).index for _ in range(7)]
            rest = [item.index async for item in pager.resume(items.cursor)]
            assert taken + rest == list(range(1, 26))
            emulator.faults.clear()
    sent = [each.target for each in emulator.requests if "continuationToken" in each.target]
    assert "$continuationToken=NQ%3D%3D&$top=5" in sent[0]


# Nothing is held while the consumer thinks


async def test_a_list_in_a_list_works_with_one_slot(emulator):
    async with client(emulator, limiter=Limiter(concurrency=1)) as itwin, asyncio.timeout(20):
        owner = (await itwin.imodels.get_imodel(IMODEL)).itwin_id
        found = 0
        async for imodel in itwin.imodels.list_imodels(owner, page_size=1).ahead(4):
            async for change in itwin.imodels.list_changesets(imodel.id, page_size=10).ahead(4):
                assert itwin.limiter.in_use == 0
                if change.index % 10 == 0:
                    await itwin.imodels.get_extended_data(imodel.id, change.id)
                found += 1
    assert found == 25 * 6  # all six belong to the one iTwin that is no account


async def test_more_open_lists_than_slots_do_not_wait_for_each_other(emulator):
    async with client(emulator, limiter=Limiter(concurrency=2)) as itwin, asyncio.timeout(20):
        lists = [aiter(itwin.imodels.list_extended_data(IMODEL, page_size=5)) for _ in range(40)]
        for nth in range(25):
            got = numbers([await anext(items) for items in lists])
            assert got == [nth + 1] * 40
    assert emulator.max_in_flight <= 2


# The life of an iterator


def stuck_after(first: bytes):
    """One page, then silence until the client is gone; tells when that is."""
    gone = asyncio.Event()

    async def answer(call) -> None:
        if call.number == 0:
            await call.body(first)
            return
        await call.gone()
        gone.set()

    answer.gone = gone
    return answer


def half_a_page(gone: asyncio.Event):
    """Half of a large page, as far as it is read; tells when the client is gone."""
    text = page(entries(0, 40, 100_000))

    async def answer(call) -> None:
        try:
            await call.head(len(text))
            await call.send(text[: len(text) // 2])
            await call.gone()
        finally:
            gone.set()

    return answer


async def test_break_in_a_large_page_closes_its_connection():
    gone = asyncio.Event()
    answer = half_a_page(gone)

    async with PageServer(answer) as server, client(server) as itwin:
        async for _ in itwin.imodels.list_extended_data(IMODEL):
            break
        await asyncio.wait_for(gone.wait(), 5)
        await settled(itwin.limiter)


@pytest.mark.parametrize("way", ["aclose", "async with", "drop", "cycle"])
async def test_a_large_page_is_closed_with_its_iterator(way):
    gone = asyncio.Event()
    answer = half_a_page(gone)

    async with PageServer(answer) as server, client(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL))
        await anext(items)
        if way == "aclose":
            await items.aclose()
            await items.aclose()
        elif way == "async with":
            async with items:
                pass
        elif way == "cycle":
            ring = [items]
            ring.append(ring)
            del ring, items
            gc.collect()
        else:
            del items
        await asyncio.wait_for(gone.wait(), 5)
        await settled(itwin.limiter)


async def test_break_cancels_what_was_asked_for_ahead():
    link = f"{PATH}?$skip=2"
    answer = stuck_after(page(entries(0, 2), link))
    async with PageServer(answer) as server, client(server) as itwin:
        async for _ in itwin.imodels.list_extended_data(IMODEL).ahead(4):
            await until(lambda: len(server.calls) == 2)
            assert itwin.limiter.in_use == 1
            break
        assert itwin.limiter.in_use == 0
        await asyncio.wait_for(answer.gone.wait(), 5)


async def test_a_closed_iterator_is_at_its_end(emulator, itwin):
    items = aiter(itwin.imodels.list_extended_data(IMODEL, page_size=10))
    await anext(items)
    await items.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(items)
    assert emulator.count(LIST) == 1


async def test_an_iterator_never_started_leaves_nothing(emulator, itwin):
    async with aiter(itwin.imodels.list_extended_data(IMODEL).ahead(4)):
        pass
    aiter(itwin.imodels.list_extended_data(IMODEL).ahead(4))
    itwin.imodels.list_extended_data(IMODEL).pages()
    assert emulator.requests == []


async def test_two_tasks_may_not_wait_on_one_iterator(itwin):
    items = aiter(itwin.imodels.list_extended_data(IMODEL))
    results = await asyncio.gather(anext(items), anext(items), return_exceptions=True)
    assert results[0].changeset_index == 1
    assert isinstance(results[1], RuntimeError)
    assert "two tasks" in str(results[1])
    assert [item.changeset_index async for item in items] == list(range(2, 26))


async def test_closing_from_another_task_ends_the_wait_at_once():
    answer = stuck_after(page(entries(0, 1), f"{PATH}?$skip=1"))
    async with PageServer(answer) as server, client(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL))
        await anext(items)
        waiting = asyncio.create_task(anext(items))
        await until(lambda: len(server.calls) == 2)
        await items.aclose()
        done, _ = await asyncio.wait([waiting], timeout=1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert done, "the request goes on although its list is closed"
        with pytest.raises(RuntimeError, match="closed"):
            await waiting


async def test_after_an_error_an_iterator_raises_it_again(emulator):
    emulator.faults.add(LIST, Status(500), times=3, after=1)
    async with client(emulator, retry=Retry(attempts=3, base=0.001)) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL, page_size=10))
        for _ in range(10):
            await anext(items)
        for _ in range(3):
            with pytest.raises(ServerError):
                await anext(items)
    assert emulator.count(LIST) == 4


async def test_pages_after_an_error_raise_it_again(emulator):
    emulator.faults.add(LIST, Status(500), times=3, after=1)
    async with client(emulator, retry=Retry(attempts=3, base=0.001)) as itwin:
        pages = itwin.imodels.list_extended_data(IMODEL, page_size=10).pages()
        await anext(pages)
        for _ in range(3):
            with pytest.raises(ServerError):
                await anext(pages)


async def test_after_its_end_an_iterator_stays_there(emulator, itwin):
    items = aiter(itwin.imodels.list_extended_data(IMODEL))
    async for _ in items:
        pass
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(items)
    assert emulator.count(LIST) == 1


async def test_after_a_cancelled_wait_an_iterator_never_ends_quietly():
    answer = stuck_after(page(entries(0, 1), f"{PATH}?$skip=1"))
    async with PageServer(answer) as server, client(server) as itwin:
        for ahead in (0, 2):
            server.calls.clear()
            answer.gone.clear()
            items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(ahead))
            await anext(items)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await anext(items)
            for _ in range(2):
                with pytest.raises(RuntimeError, match="cancelled"):
                    await anext(items)
            await asyncio.wait_for(answer.gone.wait(), 5)
            await settled(itwin.limiter)


@pytest.mark.parametrize("ahead", [0, 4])
@pytest.mark.parametrize("size", [0, 100_000])
async def test_a_cancelled_list_resumes_without_loss_whenever_it_was(ahead, size):
    expected = list(range(12))
    async with (
        PageServer(listing(12, 4, size)) as server,
        client(server, limiter=Limiter(concurrency=4)) as itwin,
    ):
        pager = itwin.imodels.list_extended_data(IMODEL).ahead(ahead)
        for instant in range(0, 90, 10 if size else 4):
            items, seen = aiter(pager), []

            async def consume(items=items, seen=seen) -> None:
                async for item in items:
                    seen.append(item.changeset_index)

            task = asyncio.create_task(consume())
            for _ in range(instant):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or seen == expected
            assert seen + await collect(pager.resume(items.cursor)) == expected
            del items
            await settled(itwin.limiter)


async def test_a_consumers_error_leaves_nothing_behind():
    async with PageServer(listing(40, 4, 100_000)) as server, client(server) as itwin:
        with pytest.raises(ZeroDivisionError):
            async for item in itwin.imodels.list_extended_data(IMODEL).ahead(4):
                item.changeset_index / 0
        await settled(itwin.limiter)
        await until(lambda: server.in_flight == 0)


@pytest.mark.parametrize("size", [0, 100_000])
async def test_a_session_closed_under_a_list_is_an_error_not_an_end(size):
    async with PageServer(listing(40, 8, size)) as server, client(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(2 if size else 0))
        seen = [(await anext(items)).changeset_index for _ in range(3)]
        await itwin.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            async for item in items:
                seen.append(item.changeset_index)
        assert len(seen) < 40
        assert seen == list(range(len(seen)))
        await until(lambda: server.open == 0)


async def test_a_session_closed_while_a_list_waits_ends_the_wait():
    answer = stuck_after(page(entries(0, 1), f"{PATH}?$skip=1"))
    async with PageServer(answer) as server:
        for ahead in (0, 2):
            async with client(server) as itwin:
                server.calls.clear()
                items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(ahead))
                await anext(items)
                waiting = asyncio.create_task(anext(items))
                await until(lambda: len(server.calls) == 2)
                await itwin.aclose()
                with pytest.raises(RuntimeError, match="closed"):
                    await waiting
                assert waiting.cancelling() == 0


async def test_a_cut_small_page_is_asked_for_again(emulator):
    emulator.faults.add(LIST, Cut(100), times=2, after=1)
    async with client(emulator) as itwin:
        got = await collect(itwin.imodels.list_extended_data(IMODEL, page_size=10))
    assert got == list(range(1, 26))
    assert emulator.count(LIST) == 5


async def test_the_repr_of_lists_and_pages_is_short(itwin):
    pager = itwin.imodels.list_extended_data(IMODEL)
    assert repr(pager) == f"Pager(GET {PATH})"
    assert repr(await anext(pager.pages())).startswith("Page(25 items, http://127.0.0.1:")


@pytest.mark.parametrize("pages", [-1, 1.5, "2", True])
async def test_ahead_wants_a_count(itwin, pages):
    with pytest.raises((TypeError, ValueError), match="pages must be"):
        itwin.imodels.list_extended_data(IMODEL).ahead(pages)


# The end of the process

SCRIPT = """
import asyncio, os, signal, sys, time
from itwin_async import ITwinSession, StaticToken
url, path, way = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

async def main():
    asyncio.get_running_loop().slow_callback_duration = float("inf")  # of a busy machine
    itwin = ITwinSession(StaticToken("t"), base_url=url)
    if way.endswith("with"):
        async with itwin:
            await use(itwin)
    else:
        await use(itwin)

async def use(itwin):
    imodel = path.split("/")[2]
    lists = [aiter(itwin.imodels.list_extended_data(imodel).ahead(n)) for n in (0, 1, 4)]
    for items in lists:
        await anext(items)
    if way.startswith("interrupt"):
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
        async for _ in lists[0]:
            await asyncio.sleep(60)
    if way == "waiting":
        task = asyncio.create_task(anext(aiter(itwin.imodels.list_extended_data(imodel))))
        await asyncio.sleep(0)
    if way == "global":
        sys.modules["__main__"].kept = (itwin, lists)
    print("over", flush=True)
    main.since = time.monotonic()

since = time.monotonic()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
assert time.monotonic() - getattr(main, "since", since) < 30  # half of what it could wait for
"""


@pytest.mark.parametrize(
    "way", ["open", "open with", "waiting", "global", "interrupt", "interrupt with"]
)
async def test_a_process_ends_quietly_with_open_lists(way):
    # What outlives its loop cannot be closed any more, and development mode rightly tells so.
    strict = [] if way in {"global", "interrupt"} else ["-X", "dev", "-W", "error"]
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONDEVMODE"}
    async with PageServer(listing(200, 20, 50_000)) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *strict, "-c", textwrap.dedent(SCRIPT), server.url, PATH, way,
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert err.decode() == ""
    assert out.split() == [b"interrupted" if "interrupt" in way else b"over"]
    assert process.returncode == 0


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
