"""Sessions that are dropped, in any thread, close their sockets quietly."""

import asyncio
import gc

import aiohttp
import pytest
from support import PACKAGE, RawServer, answer, run_script, session_at, until

from itwin_async import (
    ITwinSession,
    Limiter,
    StaticToken,
)
from itwin_async._http.lifecycle import SessionLifecycle
from itwin_async._http.token_cache import TokenCache
from itwin_async._http.transport import Transport

OK = answer(PACKAGE)


PROVIDER = StaticToken("t")


# Dropping


async def test_a_dropped_session_closes_its_sockets_at_once_and_quietly(caplog):
    async with RawServer(OK) as server:
        itwin = session_at(server)
        await asyncio.gather(*(itwin.packages.get_package("P") for _ in range(3)))
        assert server.open == 3
        gc.collect()
        gc.disable()  # dropping the last reference is enough
        try:
            del itwin
            await until(lambda: server.open == 0)
        finally:
            gc.enable()
        assert not caplog.records


async def test_a_list_keeps_its_session_alive():
    pages = answer(b'{"extensions":[{"id":"1","name":"a"}]}')
    async with RawServer(pages) as server:
        pager = session_at(server).extensions.list_extensions()
        gc.collect()
        assert [item.id async for item in pager] == ["1"]


async def test_a_session_dropped_with_an_open_body_closes_it():
    async def large(connection) -> None:
        await connection.request()
        entry = b'{"changesetId":"a","changesetIndex":1,"data":"e30="},' * 20_000
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
        await connection.send(b'{"extendedData":[', entry)
        await connection.gone()

    async with RawServer(large) as server:
        entries = aiter(session_at(server).imodels.list_extended_data("i"))
        await anext(entries)
        del entries
        await until(lambda: server.open == 0)


def test_a_session_dropped_after_its_loop_ended_is_quiet(recwarn):
    async def main() -> ITwinSession:
        async with RawServer(OK) as server:
            itwin = session_at(server)
            await itwin.packages.get_package("P")
            return itwin

    itwin = asyncio.run(main())
    del itwin
    gc.collect()
    assert not recwarn.list


async def test_dropping_a_session_leaves_the_callers_own_http_session_open():
    async with RawServer(OK) as server, aiohttp.ClientSession() as http:
        itwin = session_at(server, http=http)
        await itwin.packages.get_package("P")
        del itwin
        gc.collect()
        async with http.get(server.url) as response:
            assert response.status == 200
        assert server.opened == 1


async def test_closing_does_not_depend_on_what_a_collector_finalizes_first(caplog):
    """Here aiohttp's session is older than what closes it, and would complain before."""
    async with RawServer(OK) as server:
        transport = Transport(None, timeout=5.0, max_body=10_000)
        body = await transport.open("GET", "localhost", server.url, {})
        while await body.read():
            pass
        del body
        gc.collect()
        life = SessionLifecycle(transport, TokenCache(PROVIDER, timeout=1.0, on_renewed=list))
        life.check_open()
        life.cycle = life
        del life, transport
        gc.collect()
        await until(lambda: server.open == 0)
    assert not caplog.records


CLOSED_LOOP = """
import asyncio, gc, sys
from itwin_async import ITwinSession, StaticToken

class Held:
    pass

async def never():
    await asyncio.Event().wait()

async def use(url):
    held = Held()
    held.itwin = ITwinSession(StaticToken("t"), base_url=url)
    held.items = aiter(held.itwin.imodels.list_extended_data("i", page_size=1).ahead(4))
    await anext(held.items)  # and the next page is asked for ahead, and never comes
    held.other = ITwinSession(never, base_url=url)
    try:
        async with asyncio.timeout(0):
            await held.other.packages.get_package("P")
    except TimeoutError:
        pass  # but the token is still asked for
    return held

loop = asyncio.new_event_loop()
held = loop.run_until_complete(use(sys.argv[1]))
if sys.argv[2] == "closed":
    loop.run_until_complete(held.items.aclose())
    loop.run_until_complete(held.itwin.aclose())
loop.close()
if sys.argv[2] == "closed late":
    asyncio.run(held.items.aclose())
    asyncio.run(held.itwin.aclose())
if sys.argv[2] == "cycle":
    held.held = held
if sys.argv[2] != "exit":
    del held
    gc.collect()
"""


@pytest.mark.parametrize("way", ["dropped", "cycle", "closed", "closed late", "exit"])
async def test_what_outlives_a_closed_loop_is_dropped_quietly(way):
    link = b'{"next":{"href":"/imodels/i/changesets/extendeddata?$top=1&$skip=1"}}'
    entry = b'{"changesetId":"a","changesetIndex":1,"data":"e30="}'

    async def serve(connection) -> None:
        await connection.request()
        await connection.send(answer(b'{"extendedData":[%b],"_links":%b}' % (entry, link)))
        await connection.request()
        await connection.gone()

    async with RawServer(serve) as server:
        await run_script(CLOSED_LOOP, server.url, way, strict=False)


PENDING = """
import asyncio, gc, sys
from itwin_async import ITwinSession, Limiter, Retry, StaticToken, merged

async def never():
    await asyncio.Event().wait()

async def use(url):
    patient = Retry(attempts=9, base=60.0, cap=60.0)
    one = ITwinSession(StaticToken("t"), base_url=url, limiter=Limiter(4), retry=patient)
    out = ITwinSession(StaticToken("t"), base_url="http://127.0.0.1:9", retry=patient)
    new = ITwinSession(never, base_url=url)

    async def stream():
        lists = (one.imodels.list_extended_data("large").ahead(2) for _ in range(2))
        async with merged(lists, buffer=1) as items:
            async for _ in items:
                pass

    async def closing():
        session = ITwinSession(StaticToken("t"), base_url=url)
        async with session:
            await session.packages.get_package("stuck")

    async def pages():
        async for _ in one.imodels.list_extended_data("large").pages():
            pass

    calls = [
        *(one.packages.get_package(name) for name in ("500", "stuck", "half")),
        *(out.packages.get_package(name) for name in "abc"),
        new.packages.get_package("P"), stream(), closing(), pages(),
    ]
    tasks = [asyncio.create_task(call) for call in calls]
    tasks += [asyncio.create_task(one.packages.get_package("waits")) for _ in range(3)]
    for task in tasks:
        task._log_destroy_pending = False  # these are the program's own
    while not (one.stats.retries and out.stats.requests > 1 and one.limiter.waiting):
        await asyncio.sleep(0.001)
    return tasks

loop = asyncio.new_event_loop()
tasks = loop.run_until_complete(use(sys.argv[1]))
loop.close()
del tasks
gc.collect()
"""


async def test_calls_that_are_dropped_with_their_closed_loop_end_quietly():
    async def serve(connection) -> None:
        while True:
            got = await connection.request()
            if got.target.endswith("500"):
                await connection.send(answer(status="500 No"))
                continue
            if not got.target.endswith("stuck"):
                await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n{")
            await connection.gone()
            return

    async with RawServer(serve) as server:
        await run_script(PENDING, server.url, strict=False)


# Threads


async def test_a_session_dropped_in_another_thread_closes_its_sockets():
    async with RawServer(OK) as server:
        sessions = [session_at(server)]
        await sessions[0].packages.get_package("P")
        await asyncio.to_thread(sessions.clear)
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("way", ["dropped", "dropped in a loop", "closed"])
async def test_a_list_dropped_in_another_thread_closes_its_connection(way):
    async def large(connection) -> None:
        await connection.request()
        entry = b'{"changesetId":"a","changesetIndex":1,"data":"e30="},' * 20_000
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
        await connection.send(b'{"extendedData":[', entry)
        await connection.gone()

    async with RawServer(large) as server, session_at(server) as itwin:
        lists = [aiter(itwin.imodels.list_extended_data("i"))]
        await anext(lists[0])

        async def drop() -> None:
            if way == "closed":
                await lists[0].aclose()
            lists.clear()

        await asyncio.to_thread(lists.clear if way == "dropped" else lambda: asyncio.run(drop()))
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("with_loop", [False, True])
async def test_a_slot_given_back_in_another_thread_goes_to_who_waits(with_loop):
    link = b'{"next":{"href":"/imodels/i/changesets/extendeddata?$top=1&$skip=1"}}'
    entry = b'{"changesetId":"a","changesetIndex":1,"data":"e30="}'

    async def serve(connection) -> None:
        while True:
            got = await connection.request()
            if "skip" in got.target or got.target.endswith("stuck"):
                await connection.gone()
                return
            page = b'{"extendedData":[%b],"_links":%b}' % (entry, link)
            await connection.send(answer(page) if "extendeddata" in got.target else OK)

    async with (
        RawServer(serve) as server,
        session_at(server, limiter=Limiter(concurrency=2)) as itwin,
    ):
        lists = [aiter(itwin.imodels.list_extended_data("i", page_size=1).ahead(1))]
        await anext(lists[0])
        stuck = asyncio.create_task(itwin.packages.get_package("stuck"))
        await until(lambda: len(server.requests) == 3)
        waiting = asyncio.create_task(itwin.packages.get_package("P"))
        await until(lambda: itwin.limiter.waiting)

        async def drop() -> None:
            lists.clear()

        await asyncio.to_thread(lambda: asyncio.run(drop()) if with_loop else lists.clear())
        assert (await asyncio.wait_for(waiting, 60)).unique_name == "P"
        stuck.cancel()
        await asyncio.wait([stuck])
