"""The life of a session: created anywhere, opened late, closed once."""

import asyncio
import copy
import gzip
import pickle
from unittest.mock import create_autospec

import aiohttp
import pytest
from support import PACKAGE, RawServer, answer, session_at, until

from itwin_async import (
    ITwinSession,
    Limiter,
    ResponseError,
    Retry,
    StaticToken,
    merged,
)

OK = answer(PACKAGE)


PROVIDER = StaticToken("t")


async def silence(connection) -> None:
    await connection.request()
    await connection.gone()


# Opening


def test_a_session_made_outside_a_loop_serves_the_loop_that_meets_it(unused_tcp_port):
    session = ITwinSession(PROVIDER, base_url=f"http://127.0.0.1:{unused_tcp_port}")

    async def main() -> None:
        async with RawServer(OK, port=unused_tcp_port), session:
            await session.packages.get_package("P")

    asyncio.run(main())
    assert session.stats.requests == 1


async def test_nothing_is_opened_before_the_first_request():
    async with RawServer(OK) as server, session_at(server) as itwin:
        itwin.extensions.list_extensions()
        assert itwin._executor._transport._http is None
        assert server.opened == 0


async def test_a_session_works_without_async_with():
    async with RawServer(OK) as server:
        itwin = session_at(server)
        assert (await itwin.packages.get_package("P")).unique_name == "P"
        await itwin.aclose()


# Closing


async def test_closing_twice_is_fine():
    async with RawServer(OK) as server:
        itwin = session_at(server)
        async with itwin:
            await itwin.packages.get_package("P")
            await itwin.aclose()
        await itwin.aclose()
        assert itwin.closed


async def test_closing_an_unused_session_is_fine():
    await ITwinSession(PROVIDER).aclose()


async def test_closing_closes_the_idle_connections():
    async with RawServer(OK) as server, session_at(server) as itwin:
        await itwin.packages.get_package("P")
        assert server.open == 1
        await itwin.aclose()
        await until(lambda: server.open == 0)


async def test_an_error_inside_the_block_closes_and_comes_through():
    async with RawServer(OK) as server:
        itwin = session_at(server)
        with pytest.raises(ZeroDivisionError):
            async with itwin:
                await itwin.packages.get_package("P")
                raise ZeroDivisionError
        assert itwin.closed
        await until(lambda: server.open == 0)


@pytest.mark.parametrize(
    "use",
    [
        lambda itwin: itwin.packages.get_package("P"),
        lambda itwin: itwin.request("GET", "/x"),
        lambda itwin: anext(aiter(itwin.extensions.list_extensions())),
        lambda itwin: itwin.__aenter__(),
    ],
    ids=["call", "request", "list", "async with"],
)
async def test_a_closed_session_says_so_in_one_sentence(use):
    async with RawServer(OK) as server:
        itwin = session_at(server)
        await itwin.aclose()
        with pytest.raises(RuntimeError, match=r"^this ITwinSession is closed: make a new one$"):
            await use(itwin)
        assert server.opened == 0


async def test_a_call_that_waits_for_headers_ends_when_the_session_closes():
    async with RawServer(silence) as server, session_at(server) as itwin:
        call = asyncio.create_task(itwin.packages.get_package("P"))
        await until(lambda: server.requests)
        await itwin.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await call
        await until(lambda: server.open == 0)


async def test_a_call_that_waits_for_its_body_ends_when_the_session_closes():
    async def stuck(connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
        await connection.gone()

    async with RawServer(stuck) as server, session_at(server) as itwin:
        call = asyncio.create_task(itwin.packages.get_package("P"))
        await until(lambda: itwin.stats.bytes_received)
        await itwin.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await call
        await until(lambda: server.open == 0)


async def test_a_call_that_waits_for_a_slot_ends_when_the_session_closes():
    async with RawServer(silence) as server:
        itwin = session_at(server, limiter=Limiter(concurrency=1))
        calls = [asyncio.create_task(itwin.packages.get_package("P")) for _ in range(3)]
        await until(lambda: server.requests and itwin.limiter.waiting == 2)
        await itwin.aclose()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in ended] == [RuntimeError] * 3
        assert len(server.requests) == 1


async def test_a_call_that_waits_for_a_token_ends_when_the_session_closes():
    asked = asyncio.Event()

    async def never() -> str:
        asked.set()
        await asyncio.Event().wait()
        return "t"

    itwin = ITwinSession(never)
    call = asyncio.create_task(itwin.packages.get_package("P"))
    await asked.wait()
    await itwin.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await call


async def test_a_call_that_waits_between_attempts_ends_when_the_session_closes():
    async with RawServer(answer(status="500 No")) as server:
        itwin = session_at(server, retry=Retry(base=600.0, cap=600.0))
        call = asyncio.create_task(itwin.packages.get_package("P"))
        await until(lambda: itwin.stats.retries)
        await itwin.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await call


async def test_a_call_that_waits_for_a_pause_ends_when_the_session_closes():
    async with RawServer(answer(b"", "Retry-After: 60", status="429 Slow")) as server:
        itwin = session_at(server)
        call = asyncio.create_task(itwin.packages.get_package("P"))
        await until(lambda: itwin.stats.pauses and itwin.limiter.waiting)
        await itwin.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await call


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_cancellation_of_the_callers_own_wins_over_a_closing_session(cancel_first):
    async with RawServer(silence) as server:
        itwin = session_at(server)
        call = asyncio.create_task(itwin.packages.get_package("P"))
        await until(lambda: server.requests)
        if cancel_first:
            call.cancel()
        closing = asyncio.create_task(itwin.aclose())
        if not cancel_first:
            asyncio.get_running_loop().call_soon(call.cancel)  # before the call wakes up
        await asyncio.wait([call, closing])
        assert call.cancelled()


async def test_a_task_that_outlives_the_session_can_go_on():
    async with RawServer(silence) as server:
        itwin = session_at(server)

        async def user() -> str:
            try:
                await itwin.packages.get_package("P")
            except RuntimeError:
                await asyncio.sleep(0.001)
            return f"went on, {asyncio.current_task().cancelling()} cancellations pending"

        task = asyncio.create_task(user())
        await until(lambda: server.requests)
        await itwin.aclose()
        assert await task == "went on, 0 cancellations pending"


# The caller's own HTTP session


async def test_the_callers_own_http_session_is_never_closed():
    async with RawServer(OK) as server, aiohttp.ClientSession() as http:
        for _ in range(2):
            async with session_at(server, http=http) as itwin:
                await itwin.packages.get_package("P")
        assert not http.closed
        assert server.opened == 1


async def test_an_http_session_closed_under_us_is_named():
    async with RawServer(OK) as server:
        http = aiohttp.ClientSession()
        async with session_at(server, http=http) as itwin:
            await itwin.packages.get_package("P")
            await http.close()
            with pytest.raises(RuntimeError, match="http is closed"):
                await itwin.packages.get_package("P")


async def test_closing_ends_a_call_over_the_callers_own_http_session():
    async with RawServer(silence) as server, aiohttp.ClientSession() as http:
        itwin = session_at(server, http=http)
        call = asyncio.create_task(itwin.packages.get_package("P"))
        await until(lambda: server.requests)
        await itwin.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await call
        await until(lambda: server.open == 0)


async def test_redirects_time_limits_and_decompression_are_ours_on_any_http_session():
    moved = answer(b"", "Location: /elsewhere", status="302 Found")
    packed = answer(gzip.compress(PACKAGE), "Content-Encoding: gzip")

    async def slowly(connection) -> None:
        await connection.request()
        await asyncio.sleep(0.05)
        await connection.send(packed)
        await connection.request()
        await connection.send(moved)
        await connection.request()
        await connection.send(answer(status="404 No"))
        await connection.request()

    limits = aiohttp.ClientTimeout(total=0.01)
    async with (
        RawServer(slowly) as server,
        aiohttp.ClientSession(timeout=limits, auto_decompress=False, raise_for_status=True) as http,
        session_at(server, http=http, retry=Retry(attempts=1)) as itwin,
    ):
        assert (await itwin.packages.get_package("P")).unique_name == "P"
        for status in ("302", "404"):
            with pytest.raises(ResponseError, match=status):
                await itwin.packages.get_package("P")
        assert len(server.requests) == 3


# In tests of others, and in other processes


async def test_a_mock_of_the_class_has_the_operations_of_its_groups():
    for itwin in (create_autospec(ITwinSession), create_autospec(ITwinSession, instance=True)):
        itwin.imodels.get_imodel.return_value = "an iModel"
        assert await itwin.imodels.get_imodel("id") == "an iModel"
        itwin.extensions.list_extensions(search="x")
        itwin.extensions.list_extensions.assert_called_once_with(search="x")
        with pytest.raises(AttributeError):
            _ = itwin.imodels.no_such_method
        with pytest.raises(TypeError):
            itwin.packages.list_packages("one too many")
    assert create_autospec(ITwinSession)(PROVIDER).itwins.get_primary_account


async def test_a_session_has_each_group_once(emulator):
    async with ITwinSession(emulator.credentials, base_url=emulator.url) as itwin:
        for name in ("extensions", "imodels", "packages", "itwins"):
            assert getattr(itwin, name) is getattr(itwin, name)


@pytest.mark.parametrize("pack", [pickle.dumps, copy.deepcopy])
async def test_what_cannot_leave_its_process_says_so_and_what_to_do(pack, itwin):
    pager = itwin.imodels.list_extended_data("5e19bee0-3aea-4355-a9f0-c6df9989ee7d")
    items, pages = aiter(pager), pager.pages()
    await anext(items)
    things = {
        "an ITwinSession does not pickle: make one in each process": itwin,
        "make a session in each process": itwin.imodels,
        "a Limiter does not pickle.*make one in each process": itwin.limiter,
        "a Pager does not pickle: .* make it in each process": pager,
        r"store iterator.cursor, and go on with pager.resume\(cursor\)": items,
        "a running list does not pickle: store iterator.cursor": pages,
        r"a merged stream does not pickle: call merged\(\)": merged([pager]),
    }
    for words, thing in things.items():
        with pytest.raises(TypeError, match=words):
            pack(thing)
        with pytest.raises(TypeError, match=words):
            pack({"inside": [thing]})
    await items.aclose()
