"""The clients in Python. Each imports its packages when it is chosen.

The hand-written ones are what a competent engineer would write for this server and no other: no
retries, no limits, no checks.
"""

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from work import (
    HEADERS,
    HTTP_TIMEOUT,
    Client,
    Get,
    Spec,
    Tally,
    Work,
    entry_url,
    list_url,
    semaphore_of,
)


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
