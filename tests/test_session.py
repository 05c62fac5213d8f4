"""The life of a session: made anywhere, opened late, closed once, and never left behind."""

import asyncio
import copy
import gc
import gzip
import logging
import os
import pickle
import uuid
from unittest.mock import create_autospec

import aiohttp
import pytest
from support import PACKAGE, RawServer, answer, run_script, session_at, until

from itwin_async import (
    ClientCredentials,
    ITwinError,
    ITwinSession,
    Limiter,
    NotFoundError,
    OperationFinished,
    RateLimited,
    ResponseError,
    ResponseReceived,
    Retry,
    RetryScheduled,
    StaticToken,
    Stats,
    Token,
    TokenRenewed,
    TransportError,
    __version__,
    merged,
)
from itwin_async._http.lifecycle import SessionLifecycle
from itwin_async._http.token_cache import Tokens
from itwin_async._http.transport import Transport
from itwin_async.emulator import Emulator, Status

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


async def test_a_call_that_waits_at_the_door_ends_when_the_session_closes():
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
        life = SessionLifecycle(transport, Tokens(PROVIDER))
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
        assert (await asyncio.wait_for(waiting, 10)).unique_name == "P"
        stuck.cancel()
        await asyncio.wait([stuck])


# Loops and processes


def test_a_second_loop_is_told_so_in_one_sentence():
    itwin = ITwinSession(PROVIDER, base_url="http://127.0.0.1:9", retry=Retry(attempts=1))

    async def use() -> None:
        await itwin.packages.get_package("P")

    with pytest.raises(TransportError):
        asyncio.run(use())
    with pytest.raises(RuntimeError, match=r"^this ITwinSession belongs to another event loop: "):
        asyncio.run(use())


async def test_use_from_a_thread_with_a_loop_of_its_own_is_refused():
    async with RawServer(OK) as server, session_at(server) as itwin:
        await itwin.packages.get_package("P")

        def other_loop() -> None:
            asyncio.run(itwin.packages.get_package("P"))

        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(other_loop)
        assert len(server.requests) == 1


def in_a_child(function) -> str:
    """What a function returned, or the error it raised, in a forked process."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = str(function())
        except BaseException as error:  # noqa: BLE001 - told to the parent
            said = f"{type(error).__name__}: {error}"
        os.write(into, said.encode())
        os._exit(0)  # without a word to anything of the parent's
    os.close(into)
    os.waitpid(pid, 0)
    with os.fdopen(out) as told:
        return told.read()


@pytest.mark.parametrize("used", [True, False])
async def test_a_forked_session_is_told_so(used):
    async with RawServer(OK) as server, session_at(server) as itwin:
        if used:
            await itwin.packages.get_package("P")
        before = len(server.requests)
        said = in_a_child(lambda: asyncio.run(itwin.packages.get_package("P")))
        assert said.startswith("RuntimeError: this ITwinSession was used before a fork")
        assert len(server.requests) == before


PRELOADED = """
import asyncio, os, sys
from itwin_async import ITwinSession, StaticToken

itwin = ITwinSession(StaticToken("t"), base_url=sys.argv[1])

async def serve():
    async with itwin:
        return (await itwin.packages.get_package("P")).unique_name

children = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        assert asyncio.run(serve()) == "P"
        sys.exit(7)
    children.append(pid)
for pid in children:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert asyncio.run(serve()) == "P"
"""


async def test_a_session_made_before_a_fork_and_not_used_serves_every_process():
    async with RawServer(OK) as server:
        await run_script(PRELOADED, server.url)
        assert len(server.requests) == 3


FORKED = """
import asyncio, atexit, gc, os, sys, warnings
from itwin_async import ITwinSession, StaticToken

class Parent:
    async def begin(self, url):
        self.itwin = ITwinSession(StaticToken("t"), base_url=url, timeout=5)
        await asyncio.gather(*(self.itwin.packages.get_package("P") for _ in range(2)))
        self.items = aiter(self.itwin.imodels.list_extended_data("i").ahead(2))
        await anext(self.items)  # of a large page, of which more is to come
        self.waiting = asyncio.create_task(self.itwin.packages.get_package("slow"))
        while self.itwin.stats.requests < 4:
            await asyncio.sleep(0)

    async def go_on(self):
        assert (await self.itwin.packages.get_package("P")).unique_name == "P"
        assert (await self.itwin.packages.get_package("go")).unique_name == "P"
        assert (await self.waiting).unique_name == "P"
        assert len([item async for item in self.items]) > 30_000
        await asyncio.gather(*(self.itwin.packages.get_package("P") for _ in range(3)))
        await self.itwin.aclose()

    def fork(self, way):
        pid = os.fork()
        if pid:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
            return
        if way == "closed":
            try:
                self.itwin.aclose().send(None)
            except StopIteration:
                pass
        if way == "dropped":
            del self.items, self.itwin, self.waiting
            gc.collect()
        if way == "between runs":
            warnings.simplefilter("ignore")  # the loop was left open, with a task of ours
            self.waiting._log_destroy_pending = False
            sys.exit(7)
        atexit._run_exitfuncs()
        os._exit(7)  # the running loop would take the parent's selector with it

url, way = sys.argv[1:]
parent = Parent()
loop = asyncio.new_event_loop()
loop.run_until_complete(parent.begin(url))
if way == "between runs":
    parent.fork(way)
else:
    async def inside():
        parent.fork(way)
    loop.run_until_complete(inside())
loop.run_until_complete(parent.go_on())
loop.close()
"""


@pytest.mark.parametrize("way", ["kept", "dropped", "closed", "between runs"])
async def test_a_forked_child_that_ends_leaves_the_parent_served(way):
    """Its copies are finalized there, and its epoll is the parent's."""
    large = b'{"extendedData":[' + b",".join(
        [b'{"changesetId":"a","changesetIndex":1,"data":"e30="}'] * 40_000
    ) + b"]}"  # fmt: skip

    async def serve(connection) -> None:
        while True:
            got = await connection.request()
            if "extendeddata" in got.target:
                await connection.send(answer(large))
            elif got.target.endswith("slow"):
                await go.wait()
                await connection.send(OK)
            else:
                if got.target.endswith("go"):
                    go.set()
                await connection.send(OK)

    go = asyncio.Event()
    async with RawServer(serve) as server:
        await run_script(FORKED, server.url, way)


async def test_a_child_that_drops_its_copy_does_not_disturb_the_parent():
    async with RawServer(OK) as server:
        sessions = [session_at(server, timeout=3.0, retry=Retry(attempts=1))]
        await sessions[0].packages.get_package("P")

        def drop() -> str:
            sessions.clear()
            gc.collect()
            return "dropped"

        assert in_a_child(drop) == "dropped"
        async with sessions[0] as itwin:
            await itwin.packages.get_package("P")
        assert server.opened == 1


# The environment


NAMES = ("ITWIN_CLIENT_ID", "ITWIN_CLIENT_SECRET", "ITWIN_BASE_URL", "ITWIN_TOKEN_URL")


@pytest.fixture
def environ(monkeypatch, emulator):
    credentials = emulator.credentials
    values = (
        credentials.client_id,
        credentials.client_secret,
        emulator.url,
        credentials.token_url,
    )
    for name, value in zip(NAMES, values, strict=True):
        monkeypatch.setenv(name, value)
    return monkeypatch


async def test_from_env_reads_everything_it_needs(environ, emulator):
    async with ITwinSession.from_env() as itwin:
        assert (await itwin.itwins.get_primary_account()).display_name == "Acme Corp."
    assert emulator.count("token") == 1


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize("empty", [True, False])
async def test_from_env_names_a_missing_variable(environ, name, empty):
    environ.setenv(name, " ") if empty else environ.delenv(name)
    with pytest.raises(ValueError, match=f"{name} is not set"):
        ITwinSession.from_env()


async def test_from_env_is_production_without_a_base_url(environ):
    environ.delenv("ITWIN_BASE_URL")
    environ.delenv("ITWIN_TOKEN_URL")
    assert ITwinSession.from_env().base_url == "https://api.bentley.com"


async def test_from_env_lets_keywords_win(environ):
    limiter = Limiter(2)
    async with RawServer(OK) as server:
        async with ITwinSession.from_env(
            token_provider=StaticToken("mine"), base_url=server.url, limiter=limiter
        ) as itwin:
            await itwin.packages.get_package("P")
        assert itwin.limiter is limiter
        assert server.requests[0].headers["authorization"] == "Bearer mine"


async def test_from_env_needs_no_credentials_beside_a_provider(environ):
    environ.delenv("ITWIN_CLIENT_ID")
    ITwinSession.from_env(token_provider=PROVIDER)


# Arguments

BAD = [
    ({"token_provider": "a-bare-token"}, TypeError, "token_provider"),
    ({"token_provider": None}, TypeError, "token_provider"),
    ({"base_url": "http://api.bentley.com"}, ValueError, "base_url"),
    ({"base_url": "https://api.bentley.com/v1"}, ValueError, "base_url"),
    ({"base_url": "https://api.bentley.com?x=1"}, ValueError, "base_url"),
    ({"base_url": "https://api.bentley.com/?"}, ValueError, "base_url"),
    ({"base_url": "https://api.bentley.com#x"}, ValueError, "base_url"),
    ({"base_url": "api.bentley.com"}, ValueError, "base_url"),
    ({"base_url": "https://u:hunter2@api.bentley.com"}, ValueError, "base_url"),
    ({"base_url": "ftp://127.0.0.1"}, ValueError, "base_url"),
    ({"base_url": ""}, ValueError, "base_url"),
    ({"base_url": b"https://api.bentley.com"}, TypeError, "base_url"),
    ({"base_url": "https://api.bentley.com:0"}, ValueError, "base_url"),
    ({"base_url": "https://api.bentley.com\r\nX: y"}, ValueError, "base_url"),
    ({"limiter": 16}, TypeError, "limiter"),
    ({"retry": 3}, TypeError, "retry"),
    ({"timeout": "60"}, TypeError, "timeout"),
    ({"timeout": True}, TypeError, "timeout"),
    ({"timeout": None}, TypeError, "timeout"),
    ({"timeout": 0}, ValueError, "timeout"),
    ({"timeout": -1.0}, ValueError, "timeout"),
    ({"timeout": float("nan")}, ValueError, "timeout"),
    ({"timeout": float("inf")}, ValueError, "timeout"),
    ({"buffer_bytes": 1.5}, TypeError, "buffer_bytes"),
    ({"buffer_bytes": -1}, ValueError, "buffer_bytes"),
    ({"buffer_bytes": None}, TypeError, "buffer_bytes"),
    ({"max_body": "1"}, TypeError, "max_body"),
    ({"max_body": 0}, ValueError, "max_body"),
    ({"max_body": None}, TypeError, "max_body"),
    ({"http": 1j}, TypeError, "http"),
    ({"on_event": "print"}, TypeError, "on_event"),
]


@pytest.mark.parametrize(("keywords", "error", "name"), BAD, ids=lambda value: str(value)[:40])
def test_a_keyword_that_cannot_be_used_is_refused_in_one_sentence(keywords, error, name):
    with pytest.raises(error, match=name) as caught:
        ITwinSession(**{"token_provider": PROVIDER, **keywords})
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 200
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.bentley.com/",
        "HTTPS://API.bentley.com:443",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
        "http://localhost",
        "https://proxy.example:8443",
    ],
)
def test_a_base_url_that_can_be_used_is_taken(base_url):
    ITwinSession(PROVIDER, base_url=base_url)


def test_credentials_for_an_unknown_base_need_a_token_url():
    with pytest.raises(ValueError, match="token_url"):
        ITwinSession(ClientCredentials("i", "s"), base_url="https://proxy.example")


async def test_everything_but_the_provider_is_a_keyword():
    with pytest.raises(TypeError):
        ITwinSession(PROVIDER, "https://api.bentley.com")


async def test_a_token_that_cannot_stand_in_a_header_is_refused_before_it_is_sent():
    for bad in ("a\r\nX-Evil: 1", "tök", "a b", "", "a\x00"):

        async def provider(value=bad) -> str:
            return value

        async with RawServer(OK) as server:
            async with ITwinSession(provider, base_url=server.url) as itwin:
                with pytest.raises(ValueError, match="token"):
                    await itwin.packages.get_package("P")
            assert server.opened == 0


@pytest.mark.parametrize("given", [None, 5, b"t", {"access_token": "t"}])
async def test_a_provider_that_gives_no_token_is_a_type_error(given):
    async def provider():
        return given

    async with ITwinSession(provider) as itwin:
        with pytest.raises(TypeError, match="token"):
            await itwin.packages.get_package("P")


async def test_a_provider_that_is_not_async_is_a_type_error():
    async with ITwinSession(lambda: "t") as itwin:
        with pytest.raises(TypeError, match="async"):
            await itwin.packages.get_package("P")


async def test_the_error_of_a_provider_comes_through_as_it_is():
    async def provider() -> str:
        raise LookupError("the vault is sealed")

    async with ITwinSession(provider) as itwin:
        with pytest.raises(LookupError, match="sealed"):
            await itwin.packages.get_package("P")


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


# What every request carries, and what none does


async def test_a_request_carries_its_token_version_and_user_agent():
    async with RawServer(OK) as server, session_at(server) as itwin:
        await itwin.packages.get_package("P")
        headers = server.requests[0].headers
        assert headers["authorization"] == "Bearer token-of-the-test"
        assert headers["accept"] == "application/vnd.bentley.itwin-platform.v1+json"
        assert headers["user-agent"] == f"itwin-async/{__version__}"


async def test_every_attempt_has_a_correlation_id_of_its_own():
    answers = (answer(status="500 No"), OK)
    async with RawServer(*answers) as server, session_at(server, retry=Retry(base=0)) as itwin:
        await itwin.packages.get_package("P")
        ids = [uuid.UUID(got.headers["x-correlation-id"]) for got in server.requests]
        assert len(set(ids)) == 2


async def test_the_request_id_of_an_error_is_the_one_the_platform_gave():
    gone = answer(b"{}", "X-Correlation-Id: theirs", status="404 No")
    async with RawServer(gone) as server, session_at(server) as itwin:
        with pytest.raises(NotFoundError) as caught:
            await itwin.packages.get_package("P")
        assert caught.value.request_id == "theirs"


@pytest.mark.parametrize("status", ["404 No", "200 OK"])
async def test_the_request_id_of_an_error_is_ours_where_the_platform_gave_none(status):
    async with (
        RawServer(answer(b"<", status=status)) as server,
        session_at(server, retry=Retry(attempts=1)) as itwin,
    ):
        with pytest.raises(ITwinError) as caught:
            await itwin.packages.get_package("P")
        assert caught.value.request_id == server.requests[0].headers["x-correlation-id"]


async def test_an_error_without_an_answer_has_the_request_id_that_was_sent():
    async def reset(connection) -> None:
        await connection.request()
        connection.reset()

    async with RawServer(reset) as server, session_at(server, retry=Retry(attempts=1)) as itwin:
        with pytest.raises(TransportError) as caught:
            await itwin.packages.get_package("P")
        assert caught.value.request_id == server.requests[0].headers["x-correlation-id"]


async def test_cookies_of_the_server_are_ignored():
    answers = answer(PACKAGE, "Set-Cookie: tenant=one; Path=/")
    async with RawServer(answers) as server:
        # A cookie jar ignores addresses anyway, but not names.
        async with ITwinSession(PROVIDER, base_url=f"http://localhost:{server.port}") as itwin:
            for _ in range(2):
                await itwin.packages.get_package("P")
        assert len(server.requests) == 2
        assert not any("cookie" in got.headers for got in server.requests)


async def test_netrc_and_proxy_variables_are_ignored(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login user password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    token = answer(b'{"access_token":"fresh","expires_in":3600}')
    async with RawServer(OK) as proxy, RawServer(token, OK) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        credentials = ClientCredentials("i", "s", token_url=f"{server.url}/connect/token")
        async with ITwinSession(credentials, base_url=server.url) as itwin:
            await itwin.packages.get_package("P")
        assert proxy.opened == 0
        assert "authorization" not in server.requests[0].headers
        assert server.requests[1].headers["authorization"] == "Bearer fresh"


# Instrumentation


async def test_stats_count_what_happened():
    async def provider() -> Token:
        return Token("t", 3600)

    answers = (answer(status="500 No"), answer(b"", "Retry-After: 0", status="429 Slow"), OK)
    async with (
        RawServer(*answers) as server,
        ITwinSession(provider, base_url=server.url, retry=Retry(base=0.001)) as itwin,
    ):
        before = itwin.stats
        await itwin.packages.get_package("P")
        assert itwin.stats == Stats(
            requests=3, retries=1, throttled=1, pauses=1, renewals=1, bytes_received=len(PACKAGE)
        )
        assert before == Stats()


async def test_stats_are_frozen():
    with pytest.raises(AttributeError):
        ITwinSession(PROVIDER).stats.requests = 7


async def test_events_tell_the_same_as_the_counts():
    events = []
    answers = (answer(status="500 No"), answer(b"", "Retry-After: 0", status="429 Slow"), OK)
    async with (
        RawServer(*answers) as server,
        session_at(server, on_event=events.append, retry=Retry(base=0.001)) as itwin,
    ):
        await itwin.packages.get_package("P")
        kinds = [type(event) for event in events]
        assert kinds == [
            TokenRenewed,
            ResponseReceived,
            RetryScheduled,
            ResponseReceived,
            RateLimited,
            ResponseReceived,
            OperationFinished,
        ]
        sent = [event for event in events if isinstance(event, ResponseReceived)]
        assert [event.status for event in sent] == [500, 429, 200]
        ids = [got.headers["x-correlation-id"] for got in server.requests]
        assert [event.request_id for event in sent] == ids
        assert {event.operation for event in sent} == {"GET /edfs/packages/{unique_name}"}


async def test_a_handler_that_raises_disturbs_nothing(caplog):
    def handler(event) -> None:
        raise ZeroDivisionError

    async with RawServer(OK) as server, session_at(server, on_event=handler) as itwin:
        assert (await itwin.packages.get_package("P")).unique_name == "P"
    assert "on_event failed" in caplog.text


async def test_there_is_one_logger(emulator, itwin, caplog):
    caplog.set_level(logging.DEBUG)
    emulator.faults.add("get_primary_account", Status(500))
    await itwin.itwins.get_primary_account()
    ours = {r.name for r in caplog.records if r.name.startswith("itwin")}
    assert ours == {"itwin_async"}


async def test_the_repr_says_where_and_whether_it_is_open(itwin, emulator):
    assert repr(itwin) == f"ITwinSession({emulator.url}, open)"
    await itwin.aclose()
    assert repr(itwin) == f"ITwinSession({emulator.url}, closed)"


# Plain http, where it is asked for


@pytest.mark.parametrize("way", ["keyword", "environment"])
async def test_plain_http_to_any_host_is_allowed_by_its_switch_alone(way, monkeypatch, tmp_path):
    """0.0.0.0 leads here, and is no loopback address."""
    async with Emulator(host="0.0.0.0") as emulator:
        url = emulator.url.replace("127.0.0.1", "0.0.0.0")
        secret = emulator.credentials.client_secret
        credentials = ClientCredentials(
            emulator.credentials.client_id, secret, token_url=f"{url}/connect/token"
        )
        with pytest.raises(ValueError, match=r"base_url must be https.*allow_plain_http=True"):
            ITwinSession(credentials, base_url=url)
        monkeypatch.setenv("ITWIN_BASE_URL", url)
        if way == "environment":
            monkeypatch.setenv("ITWIN_ALLOW_PLAIN_HTTP", "1")
            itwin = ITwinSession.from_env(token_provider=credentials)
        else:
            itwin = ITwinSession(credentials, base_url=url, allow_plain_http=True)
        async with itwin:
            found = await anext(aiter(itwin.extensions.list_extensions()))
            versions = itwin.extensions.list_versions(found.id)
            number = (await anext(aiter(versions))).number
            got = await itwin.extensions.download_version(found.id, number, tmp_path)
            assert got.files


@pytest.mark.parametrize("said", ["0", "false", "yes", "True", "01"])
def test_a_switch_that_is_not_clear_is_a_value_error(said, monkeypatch):
    monkeypatch.setenv("ITWIN_ALLOW_PLAIN_HTTP", said)
    with pytest.raises(ValueError, match="ITWIN_ALLOW_PLAIN_HTTP must be 1 or true"):
        ITwinSession.from_env(token_provider=StaticToken("t"))


def test_a_keyword_wins_over_the_switch_of_the_environment(monkeypatch):
    monkeypatch.setenv("ITWIN_ALLOW_PLAIN_HTTP", "true")
    monkeypatch.setenv("ITWIN_BASE_URL", "http://emulator:8080")
    ITwinSession.from_env(token_provider=StaticToken("t"))
    with pytest.raises(ValueError, match="plain http is for loopback only, not emulator"):
        ITwinSession.from_env(token_provider=StaticToken("t"), allow_plain_http=False)


async def test_a_provider_of_ones_own_posts_no_form_in_the_clear(emulator):
    class Provider:
        async def get_token(self, sign_in) -> Token:
            await sign_in.post("http://emulator.invalid/connect/token", {"client_secret": "s"})
            raise AssertionError

    async with ITwinSession(Provider(), base_url=emulator.url) as itwin:
        with pytest.raises(ValueError, match="the token endpoint must be https"):
            await itwin.itwins.get_primary_account()


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
