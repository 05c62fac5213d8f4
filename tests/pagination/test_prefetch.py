"""Read-ahead is a guess: bounded by what is idle, and used only when a link confirms it."""

import asyncio
import gc
import itertools
import random
import weakref

import pytest
from raw_pages import (
    IMODEL,
    PATH,
    PageServer,
    client,
    collect,
    entries,
    listing,
    numbers,
    page,
    settled,
)
from support import Clock, cancelled_at_each_await, until

from itwin_async import Limiter, Retry
from itwin_async.emulator import Cut, Emulator, Reset, Status, Throttle

LIST = "list_extended_data"


class Held:
    """A list in pages of five, whose later pages are answered when they may be."""

    def __init__(self, total: int = 200, size: int = 0, first: int = 5) -> None:
        self._answer = listing(total, 5, size)
        self._first = first  # `$skip` of the first page that has to wait
        self.open = asyncio.Event()

    async def __call__(self, call) -> None:
        if call.skip >= self._first:
            await call.until(self.open)
        await self._answer(call)


async def at_rest(server) -> int:
    """How many requests there are once no more come."""
    before = -1
    while before != len(server.calls):
        before = len(server.calls)
        await asyncio.sleep(0.02)
    return before


def past(server, total: int) -> int:
    """Requests for pages behind the end."""
    return sum(call.skip >= total for call in server.calls)


# Windows


@pytest.mark.parametrize(
    ("most", "windows"),
    [(0, [0, 0, 0]), (1, [1, 1, 1]), (2, [1, 2, 2, 2]), (3, [1, 2, 3, 3]), (4, [1, 2, 4, 4]),
     (8, [1, 2, 4, 8, 8]), (16, [1, 2, 4, 8, 16, 16])],
)  # fmt: skip
async def test_windows_double_up_to_their_most(most, windows):
    async with (
        PageServer(listing(500, 5)) as server,
        client(server, limiter=Limiter(concurrency=32)) as itwin,
    ):
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(most))
        for nth, window in enumerate(windows):
            await anext(items)
            await until(lambda nth=nth, window=window: len(server.calls) >= nth + 1 + window)
            assert await at_rest(server) == nth + 1 + window
            for _ in range(4):
                await anext(items)
        await items.aclose()


@pytest.mark.parametrize("first", [5, 10])
async def test_guesses_leave_the_last_slot_free(first):
    answer = Held(first=first)  # at 10, guesses are also made without a request of their list's own
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


async def test_a_real_request_gets_a_slot_while_guesses_are_out():
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


async def test_one_slot_is_none_to_guess_with():
    async with (
        PageServer(listing(50, 5)) as server,
        client(server, limiter=Limiter(concurrency=1)) as itwin,
    ):
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(16))
        for nth in range(50):
            assert (await anext(items)).changeset_index == nth
            assert len(server.calls) == nth // 5 + 1
            if nth % 20 == 0:
                assert await at_rest(server) == nth // 5 + 1


async def test_no_guess_is_made_while_anyone_waits():
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


async def test_two_hundred_lists_at_once_waste_no_request():
    async with (
        Emulator(imodels=200, changesets=30, latency=0.01) as emulator,
        client(emulator, limiter=Limiter(concurrency=16)) as itwin,
    ):
        await itwin.itwins.get_primary_account()
        ids = [item.id async for item in imodels_of(itwin)]
        assert len(ids) == 200
        lists = [itwin.imodels.list_extended_data(id, page_size=10).ahead(8) for id in ids]
        got = await asyncio.gather(*(collect(each) for each in lists))
        assert all(each == list(range(1, 31)) for each in got)
        assert emulator.count(LIST) == 600
        assert emulator.max_in_flight <= 16


async def imodels_of(itwin):
    """All iModels of all iTwins."""
    async for owner in itwin.itwins.list_itwins():
        async for imodel in itwin.imodels.list_imodels(owner.id):
            yield imodel


async def test_the_hourly_and_minutely_pace_holds_for_guesses():
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


async def test_guesses_leave_room_in_the_pace_for_who_asks():
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
            assert [n async for each in pager.pages() for n in numbers(each)] == expected
            await settled(itwin.limiter)


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
        sent = [each for each in emulator.requests if each.operation == LIST]
        behind = [each for each in sent if int(each.query.get("$skip", 0)) >= 140]
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
                (numbers(each), each.url, each.next_url, each.cursor)
                async for each in pager.pages()
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
        for nth in range(10):
            for _ in range(5):
                await anext(items)
            sent = min(nth + 2, 10)
            await until(lambda sent=sent: len(server.calls) >= sent)
            assert await at_rest(server) == sent


async def test_guesses_carry_the_lists_headers(emulator, itwin):
    await itwin.itwins.get_primary_account()
    emulator.requests.clear()
    pager = itwin.imodels.list_changesets(IMODEL, representation=True, page_size=2).ahead(8)
    assert len([item async for item in pager]) == 25
    assert {each.headers["Prefer"] for each in emulator.requests} == {"return=representation"}
    ids = [each.headers["X-Correlation-Id"] for each in emulator.requests]
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
        assert behind <= most
        assert behind == 0 or total > 10
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


# What goes wrong


FAULTS = {
    "500": lambda call: call.json({}, 500),
    "503": lambda call: call.json({}, 503),
    "404": lambda call: call.json({}, 404),
    "403": lambda call: call.json({}, 403),
    "redirect": lambda call: call.json({}, 302),
    "empty": lambda call: call.body(b""),
    "html": lambda call: call.body(b"<html>", kind="text/html"),
    "no list": lambda call: call.json({}),
    "cut": lambda call: call.cut(page(entries(0, 5)), 50),
    "cut chunked": lambda call: call.cut(page(entries(0, 5)), 50, chunked=True),
    "reset in the body": lambda call: call.cut(page(entries(0, 5)), 50, reset=True),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("most", [1, 8])
async def test_a_failed_guess_costs_no_attempt(name, most):
    plain, failed = listing(50, 5), set()

    async def answer(call) -> None:
        if call.skip and call.target not in failed:
            failed.add(call.target)
            await FAULTS[name](call)
        else:
            await plain(call)

    async with (
        PageServer(answer) as server,
        client(server, retry=Retry(attempts=1)) as itwin,
    ):
        got = await collect(itwin.imodels.list_extended_data(IMODEL).ahead(most))
        assert got == list(range(50))
        inside = [call.target for call in server.calls if call.skip < 50]
        assert max(inside.count(target) for target in inside) <= 2
        await settled(itwin.limiter)


async def test_a_large_guess_that_does_not_decode_costs_no_attempt():
    plain, failed = listing(30, 5, 100_000), set()

    async def answer(call) -> None:
        if call.skip and call.target not in failed:
            failed.add(call.target)
            await call.body(page(entries(call.skip, 5, 100_000))[:-500])
        else:
            await plain(call)

    async with (
        PageServer(answer) as server,
        client(server, retry=Retry(attempts=1)) as itwin,
    ):
        got = await collect(itwin.imodels.list_extended_data(IMODEL).ahead(4))
        assert got == list(range(30))


async def test_a_guess_is_sent_once():
    plain = listing(200, 5)

    async def answer(call) -> None:
        if call.skip >= 10:
            await call.json({}, 503)
        else:
            await plain(call)

    async with (
        PageServer(answer) as server,
        client(server, retry=Retry(attempts=3, base=0.001)) as itwin,
    ):
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(2))
        for _ in range(6):
            await anext(items)
        await until(lambda: len(server.calls) >= 4)
        assert await at_rest(server) == 4
        assert [call.skip for call in server.calls] == [0, 5, 10, 15]
        await items.aclose()


async def test_faults_in_the_middle_lose_nothing():
    for fault in (Status(500), Cut(70), Cut(300, reset=True), Reset(), Status(403)):
        async with (
            Emulator(imodels=1, changesets=100) as emulator,
            client(emulator) as itwin,
        ):
            emulator.faults.add(LIST, fault, times=1, after=6)
            pager = itwin.imodels.list_extended_data(IMODEL, page_size=5).ahead(8)
            assert await collect(pager) == list(range(1, 101)), fault


async def test_a_refusal_that_stays_is_raised_after_all_before_it():
    plain = listing(100, 5)

    async def answer(call) -> None:
        await (call.json({}, 403) if call.skip == 50 else plain(call))

    async with PageServer(answer) as server, client(server) as itwin:
        seen = []
        with pytest.raises(Exception, match="403"):
            async for item in itwin.imodels.list_extended_data(IMODEL).ahead(16):
                seen.append(item.changeset_index)
        assert seen == list(range(50))
        await settled(itwin.limiter)
        await until(lambda: server.in_flight == 0)


async def test_a_throttled_guess_closes_the_door_and_ends_guessing_for_a_while():
    plain, throttled = listing(400, 5), False

    async def answer(call) -> None:
        nonlocal throttled
        if call.skip == 40 and not throttled:
            throttled = True
            body = b"{}"
            await call.connection.send(
                b"HTTP/1.1 429 Slow\r\nRetry-After: 20\r\nContent-Length: 2\r\n\r\n" + body
            )
        else:
            await plain(call)

    async with (
        PageServer(answer) as server,
        client(server, limiter=Limiter(concurrency=32)) as itwin,
    ):
        with Clock() as clock:
            items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(8))
            seen = [(await anext(items)).changeset_index for _ in range(20)]
            await until(lambda: itwin.limiter.paused_for() > 0)
            closed = await at_rest(server)

            async def some(count: int) -> None:
                for _ in range(count):
                    seen.append((await anext(items)).changeset_index)

            going = asyncio.create_task(some(60))
            await until(lambda: itwin.limiter.waiting == 1)
            assert await at_rest(server) == closed  # nothing is sent at a closed door
            clock.forward(23)
            await going
            await at_rest(server)
            assert max(call.skip for call in server.calls) == 75  # nothing ahead of item 80
            clock.forward(60)
            await some(6)
            await at_rest(server)
            assert max(call.skip for call in server.calls) > 85
            await some(314)
        assert seen == list(range(400))
        assert itwin.stats.throttled == 1


async def test_a_throttle_in_the_middle_loses_nothing():
    async with (
        Emulator(imodels=1, changesets=200) as emulator,
        client(emulator) as itwin,
    ):
        emulator.faults.add(LIST, Throttle(1), times=2, after=8)
        pager = itwin.imodels.list_extended_data(IMODEL, page_size=5).ahead(8)
        assert await collect(pager) == list(range(1, 201))


async def test_a_token_that_ends_in_the_middle_is_renewed_once():
    async with (
        Emulator(imodels=1, changesets=200) as emulator,
        client(emulator) as itwin,
    ):
        seen = []
        async for item in itwin.imodels.list_extended_data(IMODEL, page_size=5).ahead(8):
            seen.append(item.changeset_index)
            if len(seen) == 60:
                emulator.expire_tokens()
        assert seen == list(range(1, 201))
        assert emulator.count("token") == 2


# Room


async def test_guesses_fit_in_buffer_bytes():
    async with (
        PageServer(listing(300, 5, 3_000)) as server,
        client(server, buffer_bytes=70_000, limiter=Limiter(concurrency=32)) as itwin,
    ):
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(16))
        for nth in range(12):
            for _ in range(5):
                await anext(items)
            assert await at_rest(server) <= nth + 1 + 3  # a page has 20,6 KB
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


async def test_without_room_nothing_is_guessed():
    async with PageServer(listing(50, 5)) as server, client(server, buffer_bytes=0) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(16))
        for nth in range(50):
            assert (await anext(items)).changeset_index == nth
            assert len(server.calls) == nth // 5 + 1
            if nth % 20 == 0:
                assert await at_rest(server) == nth // 5 + 1


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
async def test_the_end_of_a_list_cancels_its_guesses_now(way):
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


async def test_a_session_closed_with_guesses_out_leaves_nothing():
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
            assert not itwin._executor.lifecycle.owned
            assert not itwin._executor.lifecycle.calls
            assert not itwin._executor._transport.open_answers

        awaits, got = await cancelled_at_each_await(
            cancel_kind, lambda: collect(pager), check, when=when
        )
        assert got == list(range(10))
        assert awaits >= 4  # fewer where more had come at once


async def test_a_guess_that_is_cancelled_before_it_began_makes_nobody_wait():
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
