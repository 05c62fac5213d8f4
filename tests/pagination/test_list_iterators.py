"""The life of an iterator: closed early, cancelled, shared, and left to the end of the process."""

import asyncio
import gc
import os
import subprocess
import sys
import textwrap

import pytest
from raw_pages import (
    IMODEL,
    PATH,
    PageServer,
    client,
    collect,
    entries,
    listing,
    page,
    settled,
)
from support import until

from itwin_async import (
    Limiter,
    Retry,
    ServerError,
)
from itwin_async.emulator import Cut, Status

LIST = "list_extended_data"


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


@pytest.mark.parametrize("ahead", [0, 1, 16])
async def test_break_in_a_large_page_closes_its_connection(ahead):
    gone = asyncio.Event()
    answer = half_a_page(gone)

    async with PageServer(answer) as server, client(server) as itwin:
        async for _ in itwin.imodels.list_extended_data(IMODEL).ahead(ahead):
            break
        await asyncio.wait_for(gone.wait(), 30)
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
        await asyncio.wait_for(gone.wait(), 30)
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
        await asyncio.wait_for(answer.gone.wait(), 30)


@pytest.mark.parametrize("ahead", [0, 1, 16])
async def test_a_closed_iterator_is_at_its_end(emulator, itwin, ahead):
    items = aiter(itwin.imodels.list_extended_data(IMODEL, page_size=10).ahead(ahead))
    await anext(items)
    await items.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(items)
    assert emulator.count(LIST) <= 1 + min(ahead, 1)


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
        done, _ = await asyncio.wait([waiting], timeout=30)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert done, "the request goes on although its list is closed"
        with pytest.raises(RuntimeError, match="closed"):
            await waiting


@pytest.mark.parametrize("ahead", [0, 1, 16])
async def test_after_an_error_an_iterator_raises_it_again(emulator, ahead):
    emulator.faults.add(LIST, Status(500), times=3 + min(ahead, 1), after=1)
    async with client(emulator, retry=Retry(attempts=3, base=0.001)) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL, page_size=10).ahead(ahead))
        for _ in range(10):
            await anext(items)
        for _ in range(3):
            with pytest.raises(ServerError):
                await anext(items)
    assert emulator.count(LIST) == 4 + min(ahead, 1)


@pytest.mark.parametrize("ahead", [0, 1, 16])
async def test_pages_after_an_error_raise_it_again(emulator, ahead):
    emulator.faults.add(LIST, Status(500), times=3 + min(ahead, 1), after=1)
    async with client(emulator, retry=Retry(attempts=3, base=0.001)) as itwin:
        pages = itwin.imodels.list_extended_data(IMODEL, page_size=10).ahead(ahead).pages()
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
        for ahead in (0, 1, 16):
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
            await asyncio.wait_for(answer.gone.wait(), 30)
            await settled(itwin.limiter)


@pytest.mark.parametrize("ahead", [0, 1, 16])
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


@pytest.mark.parametrize("ahead", [0, 1, 16])
async def test_a_consumers_error_leaves_nothing_behind(ahead):
    async with PageServer(listing(40, 4, 100_000)) as server, client(server) as itwin:
        with pytest.raises(ZeroDivisionError):
            async for item in itwin.imodels.list_extended_data(IMODEL).ahead(ahead):
                item.changeset_index / 0
        await settled(itwin.limiter)
        await until(lambda: server.in_flight == 0)


@pytest.mark.parametrize("size", [0, 100_000])
@pytest.mark.parametrize("ahead", [0, 1, 16])
async def test_a_session_closed_under_a_list_is_an_error_not_an_end(size, ahead):
    async with PageServer(listing(40, 8, size)) as server, client(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL).ahead(ahead))
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
        for ahead in (0, 1, 16):
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


@pytest.mark.parametrize("ahead", [0, 1, 16])
async def test_a_cut_small_page_is_asked_for_again(emulator, ahead):
    emulator.faults.add(LIST, Cut(100), times=2, after=1)
    async with client(emulator) as itwin:
        pager = itwin.imodels.list_extended_data(IMODEL, page_size=10)
        got = await collect(pager.ahead(ahead))
    assert got == list(range(1, 26))
    assert emulator.count(LIST) == 5 or (ahead and emulator.count(LIST) > 5)


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
