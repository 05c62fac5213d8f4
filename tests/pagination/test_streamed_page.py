"""A large page is handed over while it arrives, and survives being cut."""

import asyncio
import gc
import itertools
import json
import tracemalloc

import pytest
from raw_pages import (
    IMODEL,
    QUICK,
    PageServer,
    borders,
    client,
    collect,
    entries,
    entry,
    listing,
    numbers,
    page,
    settled,
)
from support import until

from itwin_async import DecodeError, Limiter, PayloadError, Retry, TransportError
from itwin_async.emulator import Cut, Emulator

LIST = "list_extended_data"
LARGE = 60_000  # bytes of a payload; 80,000 in base64, so that four of them are more than small


def paced(first: int, then: asyncio.Event, text: bytes):
    """Sends ``first`` bytes, waits, and sends the rest."""

    async def answer(call) -> None:
        await call.head(len(text))
        await call.send(text[:first])
        await then.wait()
        await call.send(text[first:])

    return answer


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
        for nth in range(8):
            assert numbers([await anext(items) for items in lists]) == [nth] * 10


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


# A page cut short

SIX = page(entries(0, 6, LARGE))
ENDS = borders(SIX)
CUTS = sorted({
    0, 1, 20, 100, len(SIX) // 3, len(SIX) - 1, len(SIX) - 2,
    *(at + near for at in ENDS for near in (-1, 0, 1)),
})  # fmt: skip


def cut_once(at: int, text: bytes = SIX, **how):
    """Two pages of six, the second of which is cut at first; or the first, without ``second``."""

    async def answer(call) -> None:
        if call.number == 0:
            await call.cut(text, at, **how)
        else:
            await call.body(text)

    return answer


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_cut_page_gives_each_entry_once_wherever_it_was_cut(chunked, reset):
    for at in CUTS:
        answer = cut_once(at, chunked=chunked, reset=reset)
        async with PageServer(answer) as server, client(server) as itwin:
            pager = itwin.imodels.list_extended_data(IMODEL)
            assert await collect(pager) == list(range(6)), at
            assert server.targets == [server.targets[0]] * 2
            await settled(itwin.limiter)


@pytest.mark.parametrize("reset", [False, True])
async def test_a_cut_page_gives_each_entry_once_to_a_consumer_that_pauses(reset):
    for at in [end + near for end in ENDS for near in (-1, 0, 1)]:
        async with PageServer(cut_once(at, reset=reset)) as server, client(server) as itwin:
            seen = []
            async for item in itwin.imodels.list_extended_data(IMODEL):
                seen.append(item.changeset_index)
                if server.in_flight == 0 or len(seen) < 3:
                    await asyncio.sleep(0.002)
            assert seen == list(range(6)), at


@pytest.mark.parametrize("ahead", [0, 1, 16])
async def test_pages_cut_in_the_middle_of_a_list_lose_nothing(ahead):
    whole = listing(30, 6, LARGE)
    cuts = itertools.cycle([0, 1_000, 200_000, 400_000, 479_000])
    tries: dict[str, int] = {}

    async def answer(call) -> None:
        tries[call.target] = tries.get(call.target, 0) + 1
        if tries[call.target] > 2:
            await whole(call)
        else:
            first = call.skip
            link = f"{call.server.url}/x?$skip={first + 6}&$top=100" if first < 24 else None
            await call.cut(page(entries(first, 6, LARGE), link), next(cuts))

    async with PageServer(answer) as server, client(server) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL).ahead(ahead)
        assert await collect(pager) == list(range(30))
        await settled(itwin.limiter)


@pytest.mark.parametrize("ahead", [0, 1, 16])
async def test_the_emulators_cuts_lose_nothing(ahead):
    async with (
        Emulator(imodels=1, changesets=60, payload_bytes=30_000) as emulator,
        client(emulator) as itwin,
    ):
        for at, reset in ((10, False), (300_000, True), (390_000, False), (600_000, True)):
            emulator.faults.add(LIST, Cut(at, reset=reset), after=1)
        pager = itwin.imodels.list_extended_data(IMODEL, page_size=10).ahead(ahead)
        assert await collect(pager) == list(range(1, 61))


async def test_pages_of_a_cut_page_are_whole():
    answer = cut_once(ENDS[4] + 10)
    async with PageServer(answer) as server, client(server) as itwin:
        pages = [numbers(each) async for each in itwin.imodels.list_extended_data(IMODEL).pages()]
        assert pages == [list(range(6))]


async def test_a_page_cut_while_the_consumer_paused_is_then_read_to_its_end():
    text = page(entries(0, 60, LARGE))

    async def answer(call) -> None:
        if call.number == 0:
            await call.cut(text, ENDS[4] + 100)
        else:
            await call.body(text)

    async with PageServer(answer) as server, client(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL))
        seen = [(await anext(items)).changeset_index]
        await until(lambda: server.open == 0)
        while len(server.calls) == 1:
            seen.append((await anext(items)).changeset_index)
        await until(lambda: server.in_flight == 0)  # without reading on
        assert len(seen) < 20
        seen += [item.changeset_index async for item in items]
        assert seen == list(range(60))


@pytest.mark.parametrize(("share", "stall"), [(0.2, False), (0.9, False), (0.2, True)])
async def test_memory_stays_a_fraction_of_a_page_that_is_cut_or_stalls(share, stall):
    text = page(entries(0, 100, 150_000))
    at = int(len(text) * share)

    async def answer(call) -> None:
        if call.number == 1 and stall:
            await call.head(len(text))
            await call.send(memoryview(text)[:at])
            await call.gone()
        elif call.number == 1:
            await call.cut(memoryview(text), at)
        else:
            await call.body(text)

    async with PageServer(answer) as server, client(server, timeout=0.4) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL)
        await anext(aiter(pager))
        gc.collect()
        tracemalloc.start()
        try:
            base = tracemalloc.get_traced_memory()[0]
            seen = [item.changeset_index async for item in pager]
            peak = tracemalloc.get_traced_memory()[1] - base
        finally:
            tracemalloc.stop()
        assert len(server.calls) == 3
    assert seen == list(range(100))
    assert len(text) > 20_000_000
    assert peak < len(text) / 3


async def test_nothing_is_kept_of_a_body_that_was_cut_while_it_comes_again():
    text = json.dumps({"all": "x" * 8_000_000}).encode()
    held = []

    async def answer(call) -> None:
        if call.number:
            held.append(tracemalloc.get_traced_memory()[0])
            await call.body(memoryview(text))
        else:
            await call.cut(memoryview(text), len(text) - 100)

    async with PageServer(answer) as server, client(server) as itwin:
        tracemalloc.start()
        try:
            base = tracemalloc.get_traced_memory()[0]
            assert len((await itwin.request("GET", "/any"))["all"]) == 8_000_000
        finally:
            tracemalloc.stop()
    assert held[0] - base < 2_000_000


async def test_what_is_read_again_of_a_page_is_bounded():
    """Each copy brings one entry more of a hundred: progress, but at a price that only grows."""
    text = page(entries(0, 100, LARGE))
    ends = borders(text)

    async def answer(call) -> None:
        await call.cut(text, ends[min(call.number + 3, 98)] + 5)

    retry = Retry(3, base=0.0)
    async with PageServer(answer) as server, client(server, retry=retry) as itwin:
        seen = []
        with pytest.raises(TransportError) as caught:
            async for item in itwin.imodels.list_extended_data(IMODEL):
                seen.append(item.changeset_index)
        assert caught.value.reason == "cut"
        assert seen == list(range(len(seen)))
        assert 14 < len(seen) < 50


@pytest.mark.parametrize("change", ["another", "swapped", "fewer", "none", "renumbered"])
async def test_a_page_that_changed_between_two_copies_is_an_error(change):
    other = entries(0, 6, LARGE)
    if change == "another":
        other[1]["changesetId"] = "f" * 40
    elif change == "renumbered":
        other[0]["changesetIndex"] = 5_000
    elif change == "swapped":
        other[0], other[1] = other[1], other[0]
    else:
        other = other[:2] if change == "fewer" else []

    async def answer(call) -> None:
        if call.number == 0:
            await call.cut(SIX, ENDS[4] + 100)
        else:
            await call.body(page(other))

    async with PageServer(answer) as server, client(server) as itwin:
        seen = []
        with pytest.raises(DecodeError, match="between two copies"):
            async for item in itwin.imodels.list_extended_data(IMODEL):
                seen.append(item.changeset_index)
        assert seen == list(range(len(seen)))
        assert len(seen) >= 3
        await settled(itwin.limiter)


async def test_what_changed_behind_the_cut_is_taken_as_it_is_now():
    async def answer(call) -> None:
        if call.number == 0:
            await call.cut(SIX, ENDS[4] + 100)
        else:
            await call.body(page(entries(0, 9, LARGE)))

    async with PageServer(answer) as server, client(server) as itwin:
        assert await collect(itwin.imodels.list_extended_data(IMODEL)) == list(range(9))


@pytest.mark.parametrize("reset", [False, True])
async def test_a_page_cut_at_one_place_for_ever_is_an_error_after_the_attempts(reset):
    async def answer(call) -> None:
        await call.cut(SIX, ENDS[4] + 100, reset=reset)

    retry = Retry(attempts=3, base=0.001)
    async with PageServer(answer) as server, client(server, retry=retry) as itwin:
        seen = []
        with pytest.raises(TransportError) as caught:
            async for item in itwin.imodels.list_extended_data(IMODEL):
                seen.append(item.changeset_index)
        assert caught.value.reason == "cut"
        assert caught.value.operation == "GET /imodels/{imodel_id}/changesets/extendeddata"
        assert seen == list(range(5))
        assert 3 <= len(server.calls) <= 5


async def test_a_cut_page_that_makes_progress_goes_on_beyond_the_attempts():
    text = page(entries(0, 12, LARGE))
    ends = borders(text)

    async def answer(call) -> None:
        if call.number + 4 < len(ends):
            await call.cut(text, ends[call.number + 4] + 5)
        else:
            await call.body(text)

    async with PageServer(answer) as server, client(server, retry=Retry(2, base=0.001)) as itwin:
        assert await collect(itwin.imodels.list_extended_data(IMODEL)) == list(range(12))
        assert len(server.calls) > 6


async def test_a_refusal_in_place_of_the_second_copy_is_raised():
    async def answer(call) -> None:
        if call.number == 0:
            await call.cut(SIX, ENDS[4] + 100)
        else:
            await call.json({"error": {"code": "Gone", "message": "No."}}, 404)

    async with PageServer(answer) as server, client(server) as itwin:
        seen = []
        with pytest.raises(Exception, match="404 Gone"):
            async for item in itwin.imodels.list_extended_data(IMODEL):
                seen.append(item.changeset_index)
        assert seen == list(range(5))


async def test_two_faults_between_two_copies_are_survived():
    async def answer(call) -> None:
        if call.number == 0:
            await call.cut(SIX, ENDS[4] + 100)
        elif call.number == 1:
            await call.json({}, 503)
        elif call.number == 2:
            call.connection.reset()
        else:
            await call.body(SIX)

    async with PageServer(answer) as server, client(server) as itwin:
        assert await collect(itwin.imodels.list_extended_data(IMODEL)) == list(range(6))
        assert len(server.calls) == 4


# Bad content


async def test_a_bad_entry_in_a_large_page_costs_itself_alone():
    mixed = entries(0, 30, LARGE)
    mixed[7]["data"] = "no base64!"
    mixed[11]["data"] = None
    mixed[15]["data"] = 5
    del mixed[19]["data"]
    mixed[23]["data"] = "bm8ganNvbg=="

    async with PageServer(lambda call: call.body(page(mixed))) as server, client(server) as itwin:
        good, bad = [], []
        async for item in itwin.imodels.list_extended_data(IMODEL):
            try:
                assert item.data["n"] == item.changeset_index
                good.append(item.changeset_index)
            except PayloadError as error:
                assert error.changeset_index == item.changeset_index
                assert error.imodel_id == IMODEL
                bad.append(item.changeset_index)
        assert bad == [7, 11, 15, 19, 23]
        assert sorted(good + bad) == list(range(30))
        assert len(server.calls) == 1


@pytest.mark.parametrize("where", [2, 9])
@pytest.mark.parametrize("what", ["no object", "no id", "wrong index", "broken"])
async def test_an_entry_that_is_none_ends_the_list_after_those_before_its_piece(where, what):
    mixed: list = entries(0, 12, LARGE)
    if what == "no object":
        mixed[where] = 5
    elif what == "no id":
        del mixed[where]["changesetId"]
    elif what == "wrong index":
        mixed[where]["changesetIndex"] = "seven"
    text = page(mixed)
    if what == "broken":
        at = borders(text)[where]
        text = text[:at] + b"]" + text[at + 1 :]
    async with PageServer(lambda call: call.body(text)) as server, client(server) as itwin:
        seen = []
        with pytest.raises(DecodeError):
            async for item in itwin.imodels.list_extended_data(IMODEL):
                seen.append(item.changeset_index)
        assert seen == list(range(len(seen)))
        assert len(seen) <= where + 1
        assert 2 <= len(server.calls) <= 4  # once more, and again after progress
        await settled(itwin.limiter)


@pytest.mark.parametrize("size", [100, 1_000_000])
async def test_html_in_place_of_a_page_names_its_content_type(size):
    text = b"<html>" + b"<p>Sign in</p>" * (size // 14)

    async with (
        PageServer(lambda call: call.body(text, kind="text/html")) as server,
        client(server) as itwin,
    ):
        with pytest.raises(DecodeError, match="text/html"):
            await collect(itwin.imodels.list_extended_data(IMODEL))
        assert len(server.calls) == 2


async def test_html_once_is_survived():
    async def answer(call) -> None:
        await call.body(SIX if call.number else b"<html>" * 100_000)

    async with PageServer(answer) as server, client(server) as itwin:
        assert await collect(itwin.imodels.list_extended_data(IMODEL)) == list(range(6))


BOMBS = {
    "depth": b'{"extendedData":' + b"[" * 400_000,
    "depth in an entry": b'{"extendedData":[{"x":' + b'{"x":' * 200_000,
    "depth behind entries": SIX[: ENDS[5]] + b"," + b'{"x":' * 200_000,
    "depth before the list": b'{"a":' + b"[" * 400_000,
    "brackets": b'{"extendedData":[' + b"}" * 2_000_000,
    "keys": b'{"extendedData":[' * 60_000,
    "a string": b'{"extendedData":[{"x":"' + b"}" * 4_000_000,
    "not UTF-8": SIX[: ENDS[3]] + b',{"x":"\xff\xfe"}' * 30_000,
    "trailing comma": SIX[: ENDS[5]] + b',],"_links":null}',
    "two lists in a row": SIX[: ENDS[5]] + SIX[SIX.index(b"[") :],
    "no comma": SIX[: ENDS[2]] + SIX[ENDS[2] + 2 :],
    "junk behind": SIX + b"x",
    "cut in a whole body": SIX[: ENDS[4] + 10],
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_body_that_is_no_page_is_a_decode_error_soon(name):
    text = BOMBS[name]
    async with PageServer(lambda call: call.body(text)) as server, client(server) as itwin:
        longest, over = 0.0, False
        loop = asyncio.get_running_loop()

        async def watch() -> None:
            nonlocal longest
            while not over:
                since = loop.time()
                await asyncio.sleep(0)
                longest = max(longest, loop.time() - since)

        watching = asyncio.create_task(watch())
        seen = []
        with pytest.raises(DecodeError):
            async for item in itwin.imodels.list_extended_data(IMODEL):
                seen.append(item.changeset_index)
        over = True
        await watching
        assert seen == list(range(len(seen)))
        assert 2 <= len(server.calls) <= 4
        assert longest < 1.0


async def test_a_comma_and_no_entry_behind_it_is_no_end():
    text, go = SIX[: ENDS[5]] + b',],"_links":null}', asyncio.Event()
    async with PageServer(paced(ENDS[5], go, text)) as server, client(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL))
        assert numbers([await anext(items) for _ in range(6)]) == list(range(6))
        go.set()
        with pytest.raises(DecodeError):
            await anext(items)


async def test_garbage_with_one_attempt_is_asked_for_once():
    async with (
        PageServer(lambda call: call.body(b"<html>" * 100_000)) as server,
        client(server, retry=Retry(attempts=1)) as itwin,
    ):
        with pytest.raises(DecodeError):
            await collect(itwin.imodels.list_extended_data(IMODEL))
        assert len(server.calls) == 1


async def test_a_body_beyond_max_body_is_an_error_and_not_asked_for_again():
    text = page(entries(0, 40, LARGE))
    async with (
        PageServer(lambda call: call.body(text)) as server,
        client(server, max_body=1_000_000, retry=QUICK) as itwin,
    ):
        seen = []
        with pytest.raises(TransportError) as caught:
            async for item in itwin.imodels.list_extended_data(IMODEL):
                seen.append(item.changeset_index)
        assert caught.value.reason == "too large"
        assert seen == list(range(len(seen)))
        assert len(server.calls) == 1
