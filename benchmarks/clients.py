"""The clients that are compared, each run in a process of its own.

    python benchmarks/clients.py raw '{"base": …, "lists": […], …}'

prints one line of JSON: what the work took, and its counts. Every client gets the same lists,
the same bound of requests in flight and the same headers, decodes every payload, and counts what
is in it. A client's own packages are imported when it is chosen, so that no client's memory
holds another's code. The client in TypeScript is `ts_client.mjs`; it takes and prints the same.

The hand-written ones are what a competent engineer would write for this server and no other: no
retries, no limits, no checks.
"""

import asyncio
import gc
import json
import os
import resource
import sys
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

HEADERS = {
    "Accept": "application/vnd.bentley.itwin-platform.v2+json",
    "Authorization": "Bearer t",
}
HTTP_TIMEOUT = 60.0  # seconds; long enough for every client

STATUS = Path("/proc/self/status")


@dataclass(slots=True)
class Spec:
    """The work that the harness asks for."""

    base: str
    lists: list[str]  # iModel ids, walked at once
    top: int = 100
    bound: int = 1  # requests in flight at most; 1 means that nothing needs to be bounded
    requests: int = 0  # where set: single entries, `bound` at once, instead of lists
    ahead: int = 0
    as_struct: bool = False
    stall: bool = False
    warm_up: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """Proof that the work was done, and the time of its first item."""

    entries: int = 0
    items: int = 0
    indexes: int = 0
    first: float = 0.0

    def add(self, entries: int, items: int, indexes: int) -> None:
        """Add one list, or one entry."""
        self.entries += entries
        self.items += items
        self.indexes += indexes

    def mark(self) -> None:
        """Note the time of the very first item."""
        if not self.first:
            self.first = time.perf_counter()


Work = Callable[[str, Tally], Awaitable[None]]  # walk one list
Get = Callable[[str, int, Tally], Awaitable[None]]  # get one entry
Client = Callable[[Spec], AbstractAsyncContextManager[tuple[Work, Get]]]


def list_url(spec: Spec, imodel_id: str) -> str:
    """Give the address of a list's first page."""
    return f"{spec.base}/imodels/{imodel_id}/changesets/extendeddata?$top={spec.top}"


def entry_url(spec: Spec, imodel_id: str, index: int) -> str:
    """Give the address of one entry."""
    return f"{spec.base}/imodels/{imodel_id}/changesets/{index}/extendeddata"


def semaphore_of(spec: Spec) -> asyncio.Semaphore | None:
    """Bound the requests in flight as hand-written code does. A single list needs no bound."""
    return asyncio.Semaphore(spec.bound) if len(spec.lists) > 1 else None


@asynccontextmanager
async def raw(spec: Spec) -> AsyncIterator[tuple[Work, Get]]:
    """Loop over aiohttp and msgspec by hand: typed pages, base64 undone by msgspec."""
    import aiohttp  # noqa: PLC0415
    import msgspec  # noqa: PLC0415

    class Link(msgspec.Struct):
        href: str

    class Links(msgspec.Struct):
        next: Link | None = None

    class Entry(msgspec.Struct):
        changesetId: str  # noqa: N815
        changesetIndex: int  # noqa: N815
        data: bytes

    class Page(msgspec.Struct):
        extendedData: list[Entry]  # noqa: N815
        links: Links = msgspec.field(name="_links")

    class One(msgspec.Struct):
        extendedData: Entry  # noqa: N815

    decode_page = msgspec.json.Decoder(Page).decode
    decode_one = msgspec.json.Decoder(One).decode
    decode = msgspec.json.Decoder().decode
    semaphore = semaphore_of(spec)
    connector = aiohttp.TCPConnector(limit=max(100, spec.bound))
    async with aiohttp.ClientSession(headers=HEADERS, connector=connector) as session:

        async def body(url: str) -> bytes:
            async with session.get(url) as response:
                response.raise_for_status()
                return await response.read()

        async def work(imodel_id: str, tally: Tally) -> None:
            entries = items = indexes = 0
            url: str | None = list_url(spec, imodel_id)
            while url:
                if semaphore is None:
                    page = decode_page(await body(url))
                else:
                    async with semaphore:
                        content = await body(url)
                    page = decode_page(content)
                for entry in page.extendedData:
                    data = decode(entry.data)["data"]
                    if not entries:
                        tally.mark()
                    entries += 1
                    items += len(data["changedFiles"]) + len(data.get("changes", ()))
                    indexes += entry.changesetIndex
                url = page.links.next.href if page.links.next else None
            tally.add(entries, items, indexes)

        async def get(imodel_id: str, index: int, tally: Tally) -> None:
            entry = decode_one(await body(entry_url(spec, imodel_id, index))).extendedData
            data = decode(entry.data)["data"]
            tally.mark()
            items = len(data["changedFiles"]) + len(data.get("changes", ()))
            tally.add(1, items, entry.changesetIndex)

        yield work, get


@asynccontextmanager
async def plain_json(spec: Spec) -> AsyncIterator[tuple[Work, Get]]:
    """Loop over aiohttp by hand with what the standard library has: json and base64."""
    import aiohttp  # noqa: PLC0415

    semaphore = semaphore_of(spec)
    connector = aiohttp.TCPConnector(limit=max(100, spec.bound))
    async with aiohttp.ClientSession(headers=HEADERS, connector=connector) as session:

        async def body(url: str) -> Any:
            async with session.get(url) as response:
                response.raise_for_status()
                return await response.json()

        async def work(imodel_id: str, tally: Tally) -> None:
            entries = items = indexes = 0
            url: str | None = list_url(spec, imodel_id)
            while url:
                if semaphore is None:
                    page = await body(url)
                else:
                    async with semaphore:
                        page = await body(url)
                for entry in page["extendedData"]:
                    data = json.loads(b64decode(entry["data"]))["data"]
                    if not entries:
                        tally.mark()
                    entries += 1
                    items += len(data["changedFiles"]) + len(data.get("changes", ()))
                    indexes += entry["changesetIndex"]
                link = page["_links"].get("next")
                url = link["href"] if link else None
            tally.add(entries, items, indexes)

        async def get(imodel_id: str, index: int, tally: Tally) -> None:
            entry = (await body(entry_url(spec, imodel_id, index)))["extendedData"]
            data = json.loads(b64decode(entry["data"]))["data"]
            tally.mark()
            items = len(data["changedFiles"]) + len(data.get("changes", ()))
            tally.add(1, items, entry["changesetIndex"])

        yield work, get


@asynccontextmanager
async def pydantic(spec: Spec) -> AsyncIterator[tuple[Work, Get]]:
    """Use httpx and models of pydantic, as most generated clients do."""
    import httpx  # noqa: PLC0415
    from pydantic import BaseModel, Field  # noqa: PLC0415

    class Link(BaseModel):
        href: str

    class Links(BaseModel):
        next: Link | None = None

    class Entry(BaseModel):
        changeset_id: str = Field(alias="changesetId")
        changeset_index: int = Field(alias="changesetIndex")
        data: str

    class Page(BaseModel):
        extended_data: list[Entry] = Field(alias="extendedData")
        links: Links = Field(alias="_links")

    class One(BaseModel):
        extended_data: Entry = Field(alias="extendedData")

    semaphore = semaphore_of(spec)
    # Its default pool, 100 connections of which 20 are kept, is its fastest: with one as large as
    # the bound it spends two to five times as long, walking the list of all connections.
    async with httpx.AsyncClient(headers=HEADERS, timeout=HTTP_TIMEOUT) as http:

        async def body(url: str) -> bytes:
            response = await http.get(url)
            response.raise_for_status()
            return response.content

        async def work(imodel_id: str, tally: Tally) -> None:
            entries = items = indexes = 0
            url: str | None = list_url(spec, imodel_id)
            while url:
                if semaphore is None:
                    page = Page.model_validate_json(await body(url))
                else:
                    async with semaphore:
                        content = await body(url)
                    page = Page.model_validate_json(content)
                for entry in page.extended_data:
                    data = json.loads(b64decode(entry.data))["data"]
                    if not entries:
                        tally.mark()
                    entries += 1
                    items += len(data["changedFiles"]) + len(data.get("changes", ()))
                    indexes += entry.changeset_index
                url = page.links.next.href if page.links.next else None
            tally.add(entries, items, indexes)

        async def get(imodel_id: str, index: int, tally: Tally) -> None:
            content = await body(entry_url(spec, imodel_id, index))
            entry = One.model_validate_json(content).extended_data
            data = json.loads(b64decode(entry.data))["data"]
            tally.mark()
            items = len(data["changedFiles"]) + len(data.get("changes", ()))
            tally.add(1, items, entry.changeset_index)

        yield work, get


@asynccontextmanager
async def itwin(spec: Spec) -> AsyncIterator[tuple[Work, Get]]:
    """Use the library as its users do."""
    import msgspec  # noqa: PLC0415

    from itwin_async import ITwinSession, Limiter, StaticToken  # noqa: PLC0415

    class Change(msgspec.Struct, gc=False):
        id: int
        op: int
        file: int

    class Changed(msgspec.Struct, rename="camel", gc=False):
        task_id: str
        changed_files: list[str]
        changes: list[Change] = []

    class Payload(msgspec.Struct, gc=False):
        data: Changed

    limiter = Limiter(concurrency=spec.bound)
    async with ITwinSession(StaticToken("t"), base_url=spec.base, limiter=limiter) as session:

        async def work(imodel_id: str, tally: Tally) -> None:
            entries = items = indexes = 0
            pager = session.imodels.list_extended_data(imodel_id, page_size=spec.top)
            async for entry in pager.ahead(spec.ahead):
                data = entry.data["data"]
                if not entries:
                    tally.mark()
                entries += 1
                items += len(data["changedFiles"]) + len(data.get("changes", ()))
                indexes += entry.changeset_index
            tally.add(entries, items, indexes)

        async def work_as_struct(imodel_id: str, tally: Tally) -> None:
            entries = items = indexes = 0
            pager = session.imodels.list_extended_data(imodel_id, Payload, page_size=spec.top)
            async for entry in pager.ahead(spec.ahead):
                data = entry.data.data
                if not entries:
                    tally.mark()
                entries += 1
                items += len(data.changed_files) + len(data.changes)
                indexes += entry.changeset_index
            tally.add(entries, items, indexes)

        async def get(imodel_id: str, index: int, tally: Tally) -> None:
            entry = await session.imodels.get_extended_data(imodel_id, index)
            data = entry.data["data"]
            tally.mark()
            items = len(data["changedFiles"]) + len(data.get("changes", ()))
            tally.add(1, items, entry.changeset_index)

        yield (work_as_struct if spec.as_struct else work), get


CLIENTS: dict[str, tuple[Client, tuple[str, ...]]] = {
    "raw": (raw, ("aiohttp", "msgspec")),
    "json": (plain_json, ("aiohttp",)),
    "pydantic": (pydantic, ("httpx", "pydantic")),
    "itwin": (itwin, ("itwin_async", "aiohttp", "msgspec")),
}


async def heartbeat(stalls: list[float]) -> None:
    """Note how much later than asked each sleep of a millisecond ended: the loop's stalls."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        stalls.append(time.perf_counter() - before - 0.001)


async def walk(work: Work, lists: Iterable[str], tally: Tally) -> None:
    """Walk all lists at once."""
    await asyncio.gather(*(work(imodel_id, tally) for imodel_id in lists))


async def single(get: Get, imodel_id: str, indexes: range, at_once: int, tally: Tally) -> None:
    """Get single entries, so many at once: workers that share one supply."""
    supply = iter(indexes)

    async def worker() -> None:
        for index in supply:
            await get(imodel_id, index, tally)

    await asyncio.gather(*(worker() for _ in range(at_once)))


async def measure(client: Client, spec: Spec) -> dict[str, Any]:
    """Warm up, do the work, and measure what it took."""
    before = memory("VmRSS")
    tally = Tally()
    stalls: list[float] = []
    async with client(spec) as (work, get):
        # A program creates connections, decoders and caches once: they are not measured.
        if spec.requests:
            await single(get, spec.lists[0], range(1, spec.bound + 1), spec.bound, Tally())
        else:
            await walk(work, spec.warm_up, Tally())
        gc.collect()
        heart = asyncio.create_task(heartbeat(stalls)) if spec.stall else None
        await asyncio.sleep(0.005)  # in which the heart begins to beat
        stalls.clear()
        cpu, wall = time.process_time(), time.perf_counter()
        if spec.requests:
            await single(get, spec.lists[0], range(1, spec.requests + 1), spec.bound, tally)
        else:
            await walk(work, spec.lists, tally)
        done, cpu_done = time.perf_counter(), time.process_time()
        if heart is not None:
            await asyncio.sleep(0.005)  # the last stall is seen when the heart beats again
            heart.cancel()
        peak = memory("VmHWM")
    return {
        "wall": done - wall,
        "cpu": cpu_done - cpu,
        "first": tally.first - wall,
        "memory": peak - before,
        "stall": max(stalls, default=0.0),
        "entries": tally.entries,
        "items": tally.items,
        "indexes": tally.indexes,
    }


def memory(name: str) -> int:
    """Resident memory in bytes, now (`VmRSS`) or at its highest (`VmHWM`).

    `ru_maxrss` alone would do, but on Linux it starts at what the parent process had.
    """
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """Let the highest memory start from now, where the system can: imports are not the work."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def main(name: str, argument: str) -> None:
    """Run one client, or with `versions` print the versions of what it needs."""
    client, packages = CLIENTS[name]
    for package in packages:
        import_module(package)
    if argument == "versions":
        names = (package.replace("_", "-") for package in packages)
        print(json.dumps({package: version(package) for package in names}))
        return
    forget_peak()
    outcome = asyncio.run(measure(client, Spec(**json.loads(argument))))
    print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
    os._exit(0)  # what is left to free is nobody's time
