"""Bad entries cost themselves, and a body that is no page is a decode error."""

import asyncio
import time

import pytest
from large_pages import ENDS, LARGE, SIX, paced
from raw_pages import (
    IMODEL,
    QUICK,
    PageServer,
    borders,
    client,
    collect,
    entries,
    numbers,
    page,
    settled,
)

from itwin_async import DecodeError, PayloadError, Retry, TransportError


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

        async def watch() -> None:
            nonlocal longest
            while not over:
                since = time.thread_time()
                await asyncio.sleep(0)
                longest = max(longest, time.thread_time() - since)

        watching = asyncio.create_task(watch())
        seen = []
        with pytest.raises(DecodeError):
            async for item in itwin.imodels.list_extended_data(IMODEL):
                seen.append(item.changeset_index)
        over = True
        await watching
        assert seen == list(range(len(seen)))
        assert 2 <= len(server.calls) <= 4
        assert longest < 1.0  # seconds of this thread, which other programs do not lengthen


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
