"""A web client that leaves: what was asked for upstream on its behalf ends with it."""

import asyncio
from contextlib import asynccontextmanager, suppress

import aiohttp
import anyio
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from raw_pages import IMODEL, PageServer, client, entries, page, settled
from support import until

from itwin_async import merged


@asynccontextmanager
async def serving(app: FastAPI):
    """The app on a free port; gives its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    running = asyncio.create_task(server.serve())
    await until(lambda: server.started or running.done())
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


class Upstream:
    """Gives one page (or half of a large one), then nothing more until its client is gone."""

    def __init__(self, *, large: bool) -> None:
        self.waiting = asyncio.Event()
        self.left = asyncio.Event()
        self._large = large
        self._text = page(entries(0, 40, 100_000)) if large else page(entries(0, 5), "?$skip=5")

    async def __call__(self, call) -> None:
        if not self._large and call.number == 0:
            await call.body(self._text)
            return
        try:
            if self._large:
                await call.head(len(self._text))
                await call.send(self._text[: len(self._text) // 2])
            self.waiting.set()
            await call.gone()
        finally:
            self.left.set()


def application(itwin, way: str, ended: asyncio.Event) -> FastAPI:
    """Passes a list on, line by line."""
    app = FastAPI()

    async def lines():
        pager = itwin.imodels.list_extended_data(IMODEL)
        try:
            if way == "merged":
                async with merged([pager], workers=2) as items:
                    async for item in items:
                        yield f"{item.changeset_index}\n"
            else:
                async for item in pager.ahead(4 if way == "ahead" else 0):
                    yield f"{item.changeset_index}\n"
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
            ended.set()

    @app.get("/")
    async def answer() -> StreamingResponse:
        return StreamingResponse(lines())

    return app


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("way", ["list", "ahead", "merged"])
async def test_a_web_client_that_leaves_ends_the_request_upstream(way, large):
    upstream, ended = Upstream(large=large), asyncio.Event()
    async with (
        PageServer(upstream) as server,
        client(server) as itwin,
        serving(application(itwin, way, ended)) as url,
        aiohttp.ClientSession() as browser,
    ):
        response = await browser.get(url)
        assert await response.content.readline() == b"0\n"
        await until(upstream.waiting.is_set)
        response.close()
        async with asyncio.timeout(10):
            await upstream.left.wait()
            await ended.wait()
        await settled(itwin.limiter)
        await until(lambda: not itwin._executor._transport.open_responses)
        assert not itwin._executor.lifecycle.scopes


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
async def test_cleaning_up_under_level_cancellation_needs_no_wait(large):
    """In a cancelled anyio scope each await is cancelled again; closing must not depend on one."""
    upstream = Upstream(large=large)
    async with PageServer(upstream) as server, client(server) as itwin:
        with anyio.CancelScope() as scope:
            async with merged([itwin.imodels.list_extended_data(IMODEL)]) as items:
                async for _ in items:
                    if not upstream.waiting.is_set():
                        await upstream.waiting.wait()
                    scope.cancel()
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(0)  # cancelled once
        assert scope.cancelled_caught
        async with asyncio.timeout(10):
            await upstream.left.wait()
        await settled(itwin.limiter)
