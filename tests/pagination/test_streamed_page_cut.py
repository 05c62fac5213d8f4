"""A large page that is cut gives each entry once."""

import asyncio
import gc
import itertools
import json
import tracemalloc

import pytest
from large_pages import ENDS, LARGE, SIX
from raw_pages import (
    IMODEL,
    PageServer,
    borders,
    client,
    collect,
    entries,
    listing,
    numbers,
    page,
    settled,
)
from support import until

from itwin_async import DecodeError, Retry, TransportError
from itwin_async.emulator import Cut, Emulator

LIST = "list_extended_data"


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


@pytest.mark.slow
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
        pages = [numbers(item) async for item in itwin.imodels.list_extended_data(IMODEL).pages()]
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


@pytest.mark.slow
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
