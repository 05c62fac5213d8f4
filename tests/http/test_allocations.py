"""What entries and requests keep in memory, beside a loop by hand over the same server.

Counted in blocks of the allocator and set against the loop in the same run, so that neither the
version of Python nor that of a dependency matters.
"""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
from raw_pages import IMODEL, PATH, Call, PageServer, client, listing

from itwin_async import Limiter

HEADERS = {"Accept": "a", "Authorization": "Bearer t", "User-Agent": "u", "X-Correlation-Id": "1"}
ENTRIES = 2_000
REQUESTS = 50


class Link(msgspec.Struct):
    href: str


class Links(msgspec.Struct):
    next: Link | None = None


class Entry(msgspec.Struct, rename="camel", gc=False):
    changeset_id: str
    changeset_index: int
    data: bytes


class Page(msgspec.Struct, rename="camel"):
    extended_data: list[Entry]
    links: Links = msgspec.field(name="_links")


async def by_hand(http: aiohttp.ClientSession, url: str) -> list[Entry]:
    """A list as a loop without the library reads it."""
    found: list[Entry] = []
    following: str | None = url
    while following:
        async with http.get(following) as response:
            page = msgspec.json.decode(await response.read(), type=Page)
        found += page.extended_data
        following = page.links.next.href if page.links.next else None
    return found


async def blocks_kept(read: Callable[[], Awaitable[list[Any]]]) -> float:
    """Blocks for each of the objects that ``read`` returns, with all that they keep."""
    await read()  # connections, decoders and caches
    gc.collect()
    before = sys.getallocatedblocks()
    kept = await read()
    gc.collect()
    return (sys.getallocatedblocks() - before) / len(kept)


async def test_an_entry_keeps_no_more_than_its_fields():
    async with (
        PageServer(listing(ENTRIES, 200)) as server,
        client(server) as itwin,
        aiohttp.ClientSession() as http,
    ):

        async def entries(*, with_data: bool) -> list[object]:
            pager = itwin.imodels.list_extended_data(IMODEL)
            found = [entry async for entry in pager]
            if with_data:
                for entry in found:
                    _ = entry.data
            return found

        async def entries_by_hand(*, with_data: bool) -> list[object]:
            found = await by_hand(http, server.url + PATH)
            if not with_data:
                return found
            decode = msgspec.json.Decoder(dict).decode
            pairs: list[object] = []
            for entry in found:
                pairs += [entry, decode(entry.data)]
            return pairs[::2] + pairs[1::2]

        ours = await blocks_kept(lambda: entries(with_data=False))
        theirs = await blocks_kept(lambda: entries_by_hand(with_data=False))
        assert ours < theirs + 0.5
        ours = await blocks_kept(lambda: entries(with_data=True))
        theirs = 2 * await blocks_kept(lambda: entries_by_hand(with_data=True))
        assert ours < theirs + 0.5


class Held:
    """Answers nothing before it is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        await call.until(self.open)
        await call.body(b'{"extendedData":{"changesetId":"c","changesetIndex":1,"data":"e30="}}')


async def blocks_in_flight(
    server: PageServer, held: Held, get: Callable[[], Awaitable[object]]
) -> float:
    """Blocks for each request that waits for its response."""
    asyncio.get_running_loop().set_debug(False)  # it keeps a stack for each handle
    for _ in range(2):  # the first time, connections are made
        held.open.clear()
        gc.collect()
        before = sys.getallocatedblocks()
        tasks = [asyncio.ensure_future(get()) for _ in range(REQUESTS)]
        while server.in_flight < REQUESTS:
            await asyncio.sleep(0)
        gc.collect()
        blocks = (sys.getallocatedblocks() - before) / REQUESTS
        held.open.set()
        await asyncio.gather(*tasks)
        while server.in_flight:
            await asyncio.sleep(0)
    return blocks


async def test_a_request_in_flight_keeps_little_more_than_one_by_hand():
    held = Held()
    async with (
        PageServer(held) as server,
        client(server, limiter=Limiter(concurrency=REQUESTS)) as itwin,
        aiohttp.ClientSession() as http,
    ):

        async def get_by_hand() -> object:
            url = f"{server.url}/imodels/{IMODEL}/changesets/1/extendeddata"
            async with http.get(url, headers=dict(HEADERS)) as got:
                return await got.read()

        theirs = await blocks_in_flight(server, held, get_by_hand)
        ours = await blocks_in_flight(
            server, held, lambda: itwin.imodels.get_extended_data(IMODEL, 1)
        )
        # 27 more: the call's frames, slot, token, timeout, retries, and what it is to decode.
        assert ours < theirs + 40


async def test_a_running_list_keeps_one_number_for_each_page():
    pages = 300
    async with PageServer(listing(2 * pages, 1)) as server, client(server) as itwin:
        items = aiter(itwin.imodels.list_extended_data(IMODEL))
        counts: list[int] = []
        for _ in range(2):
            for _ in range(pages - 10):
                await anext(items)
            server.calls.clear()
            server.requests.clear()
            gc.collect()
            counts.append(sys.getallocatedblocks())
        await items.aclose()
        assert (counts[1] - counts[0]) / pages < 1.5
