"""A session serves one loop and one process, and says so in one sentence."""

import asyncio
import gc
import os

import pytest
from support import PACKAGE, RawServer, answer, run_script, session_at

from itwin_async import (
    ITwinSession,
    Retry,
    StaticToken,
    TransportError,
)

OK = answer(PACKAGE)


PROVIDER = StaticToken("t")


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
            result = str(function())
        except BaseException as error:  # noqa: BLE001 - sent to the parent
            result = f"{type(error).__name__}: {error}"
        os.write(into, result.encode())
        os._exit(0)  # without a word to anything of the parent's
    os.close(into)
    os.waitpid(pid, 0)
    with os.fdopen(out) as pipe:
        return pipe.read()


@pytest.mark.parametrize("used", [True, False])
async def test_a_forked_session_is_told_so(used):
    async with RawServer(OK) as server, session_at(server) as itwin:
        if used:
            await itwin.packages.get_package("P")
        before = len(server.requests)
        result = in_a_child(lambda: asyncio.run(itwin.packages.get_package("P")))
        assert result.startswith("RuntimeError: this ITwinSession was used before a fork")
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
