"""A large page is handed over while it arrives, and holds no slot meanwhile."""

import asyncio
import gc
import json
import tracemalloc

import pytest
from large_pages import LARGE, paced
from raw_pages import (
    IMODEL,
    PageServer,
    borders,
    client,
    collect,
    entries,
    entry,
    listing,
    numbers,
    page,
)
from support import until

from itwin_async import Limiter, Retry
from itwin_async.emulator import Emulator

# Arrival


async def test_entries_arrive_before_their_page_is_complete():
    text, go = page(entries(0, 20, LARGE)), asyncio.Event()
    async with PageServer(paced(len(text) // 2, go, text)) as server, client(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL))
        seen = [(await anext(items)).changeset_index for _ in range(9)]
        assert server.in_flight == 1
        go.set()
        seen += [item.changeset_index async for item in items]
        assert seen == list(range(20))


async def test_an_entry_is_given_as_soon_as_its_last_byte_is_in():
    text, go = page(entries(0, 20, LARGE)), asyncio.Event()
    tenth = borders(text)[9]
    async with PageServer(paced(tenth, go, text)) as server, client(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL))
        async with asyncio.timeout(5):
            assert numbers([await anext(items) for _ in range(10)]) == list(range(10))


async def test_links_may_come_before_the_entries():
    async def answer(call) -> None:
        link = None if call.number else f"{call.server.url}/x?$skip=8"
        first = 8 * call.number
        body = {"_links": {"next": {"href": link}}, "extendedData": entries(first, 8, LARGE)}
        await call.json(body)

    async with PageServer(answer) as server, client(server) as itwin:
        assert await collect(itwin.imodels.list_extended_data(IMODEL)) == list(range(16))


async def test_the_lists_key_inside_a_payload_deceives_nobody():
    trap = entry(0)
    trap["note"] = {"extendedData": [{"changesetId": "x", "changesetIndex": 9, "data": ""}]}
    body = {"note": '"extendedData": [', "extendedData": [trap, *entries(1, 8, LARGE)]}
    inner = {"before": {"extendedData": [entry(77)]}, **body}

    async def answer(call) -> None:
        await call.json(inner)

    async with PageServer(answer) as server, client(server) as itwin:
        assert await collect(itwin.imodels.list_extended_data(IMODEL)) == list(range(9))


@pytest.mark.parametrize("spaces", ["", " ", "\r\n\t "])
@pytest.mark.parametrize("piece", [1 << 10, (1 << 16) - 1, 1 << 18])
async def test_a_large_page_may_be_written_and_sliced_in_any_way(spaces, piece):
    text = json.dumps(
        {"extendedData": entries(0, 9, LARGE), "_links": None},
        separators=(f"{spaces},{spaces}", f"{spaces}:{spaces}"),
    ).encode()

    async def answer(call) -> None:
        await call.head(None)
        for start in range(0, len(text), piece):
            part = text[start : start + piece]
            await call.send(b"%x\r\n%s\r\n" % (len(part), part), 1 << 20)
        await call.send(b"0\r\n\r\n")

    async with PageServer(answer) as server, client(server) as itwin:
        assert await collect(itwin.imodels.list_extended_data(IMODEL)) == list(range(9))


async def test_payloads_of_a_large_page_are_what_was_sent():
    async with (
        Emulator(imodels=1, changesets=12, payload_bytes=204_800) as emulator,
        client(emulator) as itwin,
    ):
        together = {item.changeset_index: item async for item in
                    itwin.imodels.list_extended_data(IMODEL)}  # fmt: skip
        for index, item in together.items():
            assert item == await itwin.imodels.get_extended_data(IMODEL, index)
            assert item.data["data"]["taskId"]
        assert sorted(together) == list(range(1, 13))


# Nothing held while the consumer thinks


async def test_a_call_works_in_the_middle_of_a_27_mb_page_with_one_slot():
    async with (
        Emulator(imodels=1, changesets=100, payload_bytes=204_800) as emulator,
        client(emulator, limiter=Limiter(concurrency=1)) as itwin,
        asyncio.timeout(30),
    ):
        seen = 0
        async for item in itwin.imodels.list_extended_data(IMODEL).ahead(4):
            seen += 1
            assert itwin.limiter.in_use == 0
            if seen in {1, 50, 100}:
                change = await itwin.imodels.get_changeset(IMODEL, item.changeset_id)
                assert change.index == item.changeset_index
        assert seen == 100
        assert emulator.count("get_changeset") == 3


async def test_many_large_pages_may_be_open_with_one_slot():
    async with (
        PageServer(listing(8, 8, LARGE)) as server,
        client(server, limiter=Limiter(concurrency=1)) as itwin,
        asyncio.timeout(20),
    ):
        lists = [aiter(itwin.imodels.list_extended_data(IMODEL)) for _ in range(10)]
        for number in range(8):
            assert numbers([await anext(items) for items in lists]) == [number] * 10


async def test_reading_on_waits_for_a_slot():
    text, go = page(entries(0, 20, LARGE)), asyncio.Event()

    async def answer(call) -> None:
        if call.number == 0:
            await call.body(text)
        else:
            await go.wait()
            await call.json({"iModel": {"id": "x"}})

    async with (
        PageServer(answer) as server,
        client(server, limiter=Limiter(concurrency=1)) as itwin,
    ):
        items = aiter(itwin.imodels.list_extended_data(IMODEL))
        await anext(items)
        other = asyncio.create_task(itwin.imodels.get_imodel(IMODEL))
        await until(lambda: len(server.calls) == 2)

        async def rest() -> list[int]:
            return numbers([item async for item in items])

        reading = asyncio.create_task(rest())
        await until(lambda: itwin.limiter.waiting == 1)
        go.set()
        await other
        assert await reading == list(range(1, 20))


@pytest.mark.slow
async def test_a_slow_consumer_pauses_the_server():
    text = page(entries(0, 100, 150_000))
    async with PageServer(lambda call: call.body(text)) as server, client(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL))
        given = 0
        for _ in range(10):
            given += len((await anext(items)).payload)
            before = -1
            while before != server.sent:  # as far as it goes
                before = server.sent
                await asyncio.sleep(0.02)
        assert server.sent < given * 4 / 3 + 10_000_000  # what sockets hold is the kernel's choice
        assert server.sent < len(text) - 5_000_000
        assert server.in_flight == 1
        assert await anext(items)


async def test_memory_stays_a_fraction_of_the_page():
    text = page(entries(0, 100, 150_000))
    async with PageServer(lambda call: call.body(text)) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        await anext(aiter(pager))
        gc.collect()
        tracemalloc.start()
        try:
            base = tracemalloc.get_traced_memory()[0]
            async for _ in pager:
                pass
            peak = tracemalloc.get_traced_memory()[1] - base
        finally:
            tracemalloc.stop()
    assert len(text) > 20_000_000
    assert peak < len(text) / 4


@pytest.mark.slow
async def test_the_consumers_own_time_is_no_timeout():
    text = page(entries(0, 60, 100_000))
    async with (
        PageServer(lambda call: call.body(text)) as server,
        client(server, timeout=1.0, retry=Retry(attempts=1)) as itwin,
    ):
        seen = 0
        async for _ in itwin.imodels.list_extended_data(IMODEL):
            seen += 1
            if seen in {1, 40}:
                await asyncio.sleep(0.6)
        assert seen == 60


async def test_a_body_that_stalls_is_a_timeout_and_asked_for_again():
    text = page(entries(0, 10, LARGE))

    async def answer(call) -> None:
        if call.number:
            await call.body(text)
            return
        await call.head(len(text))
        await call.send(text[: len(text) // 2])
        await call.gone()

    async with PageServer(answer) as server, client(server, timeout=0.3) as itwin:
        assert await collect(itwin.imodels.list_extended_data(IMODEL)) == list(range(10))
        assert len(server.calls) == 2
