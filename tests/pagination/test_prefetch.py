"""Prefetched pages are bounded by what is idle, and used only when a link confirms them."""

import asyncio
import itertools
import random

import pytest
from prefetching import LIST, Held, past
from raw_pages import (
    IMODEL,
    PATH,
    PageServer,
    at_rest,
    client,
    collect,
    entries,
    listing,
    numbers,
    page,
    settled,
)
from support import Clock, until

from itwin_async import Limiter
from itwin_async.emulator import Emulator

# Windows


@pytest.mark.parametrize(
    ("most", "windows"),
    [(0, [0, 0, 0]), (1, [1, 1, 1]), (2, [1, 2, 2, 2]), (3, [1, 3, 3, 3]), (4, [1, 3, 4, 4]),
     (8, [1, 3, 4, 5, 7, 8, 8])],
)  # fmt: skip
async def test_windows_are_as_long_as_the_list_is_known_to_be(most, windows):
    async with (
        PageServer(listing(500, 5)) as server,
        client(server, limiter=Limiter(concurrency=32)) as itwin,
    ):
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(most))
        for index, window in enumerate(windows):
            await anext(items)
            await until(lambda index=index, window=window: len(server.calls) >= index + 1 + window)
            assert await at_rest(server) == index + 1 + window
            for _ in range(4):
                await anext(items)
        await items.aclose()


@pytest.mark.parametrize("first", [5, 10])
async def test_prefetches_leave_the_last_slot_free(first):
    answer = Held(
        first=first
    )  # at 10, pages are also prefetched without a request of their list's own
    async with (
        PageServer(answer) as server,
        client(server, limiter=Limiter(concurrency=4)) as itwin,
    ):
        lists = [aiter(itwin.imodels.list_extended_data(IMODEL).ahead(16)) for _ in range(6)]
        for _ in range(first - 4):
            for items in lists:
                await anext(items)
        await until(lambda: server.in_flight >= 2)
        await at_rest(server)
        assert server.in_flight == itwin.limiter.in_use <= 3
        assert itwin.limiter.waiting == 0
        answer.open.set()
        for items in lists:
            assert len([item async for item in items]) == 200 - (first - 4)


async def test_a_real_request_gets_a_slot_while_prefetches_are_out():
    answer = Held()
    async with (
        PageServer(answer) as server,
        client(server, limiter=Limiter(concurrency=3)) as itwin,
    ):
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(8))
        await anext(items)
        await until(lambda: server.in_flight == 1)
        async with asyncio.timeout(5):
            for _ in range(3):
                assert await anext(aiter(itwin.imodels.list_extended_data(IMODEL).ahead(8)))
        await items.aclose()


async def test_one_slot_prefetches_nothing():
    async with (
        PageServer(listing(50, 5)) as server,
        client(server, limiter=Limiter(concurrency=1)) as itwin,
    ):
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(16))
        for index in range(50):
            assert (await anext(items)).changeset_index == index
            assert len(server.calls) == index // 5 + 1
            if index % 20 == 0:
                assert await at_rest(server) == index // 5 + 1


async def test_nothing_is_prefetched_while_anyone_waits():
    answer, go = Held(), asyncio.Event()

    async def mixed(call) -> None:
        if call.target.endswith(IMODEL):
            await go.wait()
            await call.json({"iModel": {"id": "x"}})
        else:
            await answer(call)

    async with (
        PageServer(mixed) as server,
        client(server, limiter=Limiter(concurrency=3)) as itwin,
    ):
        calls = [asyncio.create_task(itwin.imodels.get_imodel(IMODEL)) for _ in range(2)]
        await until(lambda: server.in_flight == 2)
        reading = asyncio.create_task(anext(aiter(itwin.imodels.list_extended_data(IMODEL))))
        more = [asyncio.create_task(itwin.imodels.get_imodel(IMODEL)) for _ in range(3)]
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(16))
        first = asyncio.create_task(anext(items))
        await until(lambda: itwin.limiter.waiting)
        go.set()
        await asyncio.gather(*calls, *more, reading, first)
        assert server.most <= 3
        await items.aclose()


@pytest.mark.slow
async def test_two_hundred_lists_at_once_waste_no_request():
    async with (
        Emulator(imodels=200, changesets=30, latency=0.01) as emulator,
        client(emulator, limiter=Limiter(concurrency=16)) as itwin,
    ):
        await itwin.itwins.get_primary_account()
        ids = [item.id async for item in imodels_of(itwin)]
        assert len(ids) == 200
        lists = [itwin.imodels.list_extended_data(id, page_size=10).ahead(8) for id in ids]
        got = await asyncio.gather(*(collect(entry) for entry in lists))
        assert all(entry == list(range(1, 31)) for entry in got)
        assert emulator.count(LIST) == 600
        assert emulator.max_in_flight <= 16


async def imodels_of(itwin):
    """All iModels of all iTwins."""
    async for owner in itwin.itwins.list_itwins():
        async for imodel in itwin.imodels.list_imodels(owner.id):
            yield imodel


async def test_the_rate_windows_hold_for_prefetches():
    async with (
        PageServer(listing(300, 5)) as server,
        client(server, limiter=Limiter(concurrency=4, per_minute=30)) as itwin,
    ):
        with Clock() as clock:
            task = asyncio.create_task(collect(itwin.imodels.list_extended_data(IMODEL).ahead(16)))
            for sent in (30, 60):
                await until(lambda: len(server.calls) >= sent)  # noqa: B023 - awaited at once
                assert await at_rest(server) == sent
                clock.forward(61)
            assert await task == list(range(300))
        assert len(server.calls) == 60 + past(server, 300)


async def test_prefetches_leave_room_in_the_rate_windows_for_foreground_requests():
    async with (
        PageServer(listing(200, 5)) as server,
        client(server, limiter=Limiter(concurrency=4, per_minute=12)) as itwin,
        asyncio.timeout(20),
    ):
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(16))
        for _ in range(4):
            for _ in range(5):
                await anext(items)
            assert await at_rest(server) <= 12 - 4
        for _ in range(4):
            await anext(aiter(itwin.imodels.list_extended_data("other")))
        await items.aclose()


# Confirmed by links


async def same_with_any_window(make, expected, **options):
    """Whether a server's list is the same however far ahead it is read."""
    for most in (0, 1, 3, 16):
        async with PageServer(make()) as server, client(server, **options) as itwin:
            pager = itwin.imodels.list_extended_data(IMODEL).ahead(most)
            assert await collect(pager) == expected, most
            assert [n async for entry in pager.pages() for n in numbers(entry)] == expected
            await settled(itwin.limiter)


@pytest.mark.slow
async def test_order_holds_whatever_comes_first():
    chance = random.Random(7)

    def make():
        plain = listing(100, 5)

        async def answer(call) -> None:
            await asyncio.sleep(chance.random() * 0.01)
            await plain(call)

        return answer

    await same_with_any_window(make, list(range(100)))


async def test_a_changing_step_loses_and_doubles_nothing():
    steps = [5, 5, 5, 3, 3, 7, 1, 1, 1, 1, 9, 9, 9, 9, 2]
    ends = dict(itertools.pairwise(itertools.accumulate(steps, initial=0)))

    def make():
        async def answer(call) -> None:
            at = call.skip
            after = ends.get(at)
            if after is None:  # no link leads here
                await call.body(page(entries(9_000 + at, 5), f"{PATH}?$skip={at + 5}"))
                return
            await call.body(
                page(entries(at, after - at), f"{PATH}?$skip={after}" if after in ends else None)
            )

        return answer

    await same_with_any_window(make, list(range(sum(steps))))


async def test_a_page_no_link_named_is_never_delivered():
    def make():
        async def answer(call) -> None:
            at = call.skip
            right = at == 0 or call.target.endswith(f"&v={at * 7}")
            link = f"{PATH}?$skip={at + 5}&v={(at + 5) * 7}" if at < 45 else None
            await call.body(page(entries(at if right else 9_000, 5), link))

        return answer

    await same_with_any_window(make, list(range(50)))


@pytest.mark.parametrize("cap", [{"max_items": 7}, {"max_top": 7}, {}])
@pytest.mark.parametrize("most", [1, 16])
async def test_fewer_items_than_asked_for_are_predicted_right(cap, most):
    async with (
        Emulator(imodels=1, changesets=140, **cap) as emulator,
        client(emulator) as itwin,
    ):
        pager = itwin.imodels.list_extended_data(IMODEL, page_size=20).ahead(most)
        assert await collect(pager) == list(range(1, 141))
        sent = [entry for entry in emulator.requests if entry.operation == LIST]
        behind = [entry for entry in sent if int(entry.query.get("$skip", 0)) >= 140]
        assert len(sent) - len(behind) == (20 if cap else 7)
        assert len(behind) <= most


async def test_content_urls_and_cursors_are_the_same_with_any_window():
    async with (
        Emulator(imodels=1, changesets=130, max_items=9) as emulator,
        client(emulator) as itwin,
    ):
        runs = []
        for most in (0, 1, 16):
            pager = itwin.imodels.list_extended_data(IMODEL).ahead(most)
            pages = [
                (numbers(entry), entry.url, entry.next_url, entry.cursor)
                async for entry in pager.pages()
            ]
            items = aiter(pager)
            runs.append((pages, [(item, items.cursor) async for item in items]))
        assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("most", [1, 8])
async def test_continuation_tokens_are_read_one_page_ahead(most):
    async def answer(call) -> None:
        at = int(call.target.partition("Token=")[2] or 0)
        link = f"{PATH}?$continuationToken={at + 5}" if at < 45 else None
        await call.body(page(entries(at, 5), link))

    async with PageServer(answer) as server, client(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(most))
        for index in range(10):
            for _ in range(5):
                await anext(items)
            sent = min(index + 2, 10)
            await until(lambda sent=sent: len(server.calls) >= sent)
            assert await at_rest(server) == sent


async def test_prefetches_carry_the_lists_headers(emulator, itwin):
    await itwin.itwins.get_primary_account()
    emulator.requests.clear()
    pager = itwin.imodels.list_changesets(IMODEL, representation=True, page_size=2).ahead(8)
    assert len([item async for item in pager]) == 25
    assert {entry.headers["Prefer"] for entry in emulator.requests} == {"return=representation"}
    ids = [entry.headers["X-Correlation-Id"] for entry in emulator.requests]
    assert len(ids) == len(set(ids)) >= 13


# The end of a list


@pytest.mark.parametrize("total", [1, 5, 6, 10, 15, 35, 40, 75, 80, 85])
@pytest.mark.parametrize("most", [1, 4, 16])
async def test_no_more_than_the_window_is_asked_for_behind_the_end(total, most):
    async with PageServer(listing(total, 5)) as server, client(server) as itwin:
        assert await collect(itwin.imodels.list_extended_data(IMODEL).ahead(most)) == list(
            range(total)
        )
        behind = past(server, total)
        assert behind <= (most if most > 1 else 0)
        assert behind == 0 or total > 10
        assert behind <= len({call.skip for call in server.calls if call.skip < total})
        inside = [call.skip for call in server.calls if call.skip < total]
        assert sorted(inside) == list(range(0, total, 5))


@pytest.mark.parametrize(
    "what", ["404", "hang", "reset", "html", pytest.param("429", marks=pytest.mark.slow)]
)
async def test_what_is_behind_the_end_disturbs_nobody(what):
    def make():
        plain = listing(60, 5)

        async def answer(call) -> None:
            if call.skip < 60:
                await plain(call)
            elif what == "hang":
                await call.gone()
            elif what == "reset":
                call.connection.reset()
            elif what == "html":
                await call.body(b"<html>")
            else:
                await call.json({}, int(what))

        return answer

    await same_with_any_window(make, list(range(60)))
