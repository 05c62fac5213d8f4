"""A prefetched page that fails costs no attempt, and loses nothing."""

import asyncio

import pytest
from prefetching import LIST
from raw_pages import (
    IMODEL,
    PageServer,
    at_rest,
    client,
    collect,
    entries,
    listing,
    page,
    settled,
)
from support import Clock, until

from itwin_async import Limiter, Retry
from itwin_async.emulator import Cut, Emulator, Reset, Status, Throttle
from itwin_async.limits import rate_limiter_of

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
async def test_a_failed_prefetch_costs_no_attempt(name, most):
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


async def test_a_large_prefetch_that_does_not_decode_costs_no_attempt():
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


async def test_a_prefetch_is_sent_once():
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


async def test_a_throttled_prefetch_pauses_requests_and_ends_prefetching_for_a_while():
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
            await until(lambda: rate_limiter_of(itwin.limiter).paused_for() > 0)
            closed = await at_rest(server)

            async def some(count: int) -> None:
                for _ in range(count):
                    seen.append((await anext(items)).changeset_index)

            going = asyncio.create_task(some(60))
            await until(lambda: itwin.limiter.waiting == 1)
            assert await at_rest(server) == closed  # nothing is sent during a pause
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


@pytest.mark.slow
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
