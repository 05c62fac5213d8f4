"""A web backend on the iTwin Platform: JSON, a stream with backpressure, errors, health, a page.

One session serves the app for life. A client that goes away ends what was asked for upstream on its
behalf; a client that reads slowly slows the platform's answer down, and nothing piles up here.

    python -m itwin_async.emulator --port 8080     # in another terminal; export what it prints
    uvicorn --app-dir examples fastapi_app:app     # then open http://127.0.0.1:8000
"""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, TypeAlias, TypedDict, TypeVar
from uuid import UUID

import anyio
import msgspec
from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from itwin_async import (
    Changeset,
    ConflictError,
    ExtendedData,
    ForbiddenError,
    InvalidRequestError,
    ITwinError,
    ITwinSession,
    Merged,
    NotFoundError,
    Pager,
    PayloadError,
    RateLimitError,
    Retry,
    TransportError,
    merged,
)

T = TypeVar("T")
PATIENCE: Final = Retry(3, max_throttled=10)  # somebody waits for the answer
PAGE: Final = Path(__file__).parent / "static"


class State(TypedDict):
    """What every request finds in ``request.state``."""

    itwin: ITwinSession


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[State]:
    """Open the session with the app, in its event loop, and close it with the app."""
    async with ITwinSession.from_env(retry=PATIENCE, timeout=20) as itwin:
        yield {"itwin": itwin}


async def the_session(request: Request) -> ITwinSession:
    """The session that all requests share."""
    itwin: ITwinSession = request.state.itwin
    return itwin


Session: TypeAlias = Annotated[ITwinSession, Depends(the_session)]


class CancelWhenGone:
    """Cancels the handling of a request when its client goes, which ASGI servers do not do.

    What runs after the whole response was sent, such as a background task, is left alone.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as long as its client is there."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        inbox: asyncio.Queue[Message] = asyncio.Queue(1)  # an upload comes as fast as it is read

        async def watch() -> None:
            while (message := await receive())["type"] != "http.disconnect":
                await inbox.put(message)
            handling.cancel()

        async def send_on(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                watching.cancel()

        with anyio.CancelScope() as handling:
            watching = asyncio.create_task(watch())
            try:
                await self.app(scope, inbox.get, send_on)
            finally:
                watching.cancel()


app = FastAPI(title="Changesets, live", lifespan=lifespan)
app.add_middleware(CancelWhenGone)


@dataclass(frozen=True)
class Problem:
    """What a client gets instead of an answer (RFC 9457), or as the last line of a stream."""

    status: int
    title: str
    detail: str
    request_id: str | None


# 502 where not named: it is the platform's answer, or our credentials, but nothing of the client's.
STATUS: Final[dict[type[ITwinError], int]] = {
    InvalidRequestError: 400,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    RateLimitError: 503,
}


def problem_of(error: ITwinError) -> Problem:
    """An error as its client may see it: errors show no token, secret or signed URL."""
    status = STATUS.get(type(error), 502)
    if isinstance(error, TransportError) and error.reason == "timeout":
        status = 504
    return Problem(status, type(error).__name__, str(error), error.request_id)


@app.exception_handler(ITwinError)
async def refuse(_request: Request, error: ITwinError) -> JSONResponse:
    """Every error of the platform that a handler does not deal with itself."""
    problem = problem_of(error)
    headers: dict[str, str] = {}
    if isinstance(error, RateLimitError) and error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    return JSONResponse(asdict(problem), problem.status, headers, "application/problem+json")


@dataclass(frozen=True)
class Named:
    """An extension, iTwin or iModel, as much of it as the page shows."""

    id: str
    name: str
    description: str | None = None


Limit: TypeAlias = Annotated[int, Query(ge=1, le=100)]


async def first(pager: Pager[T], count: int) -> list[T]:
    """The first items of a list; no page is asked for beyond them."""
    items: list[T] = []
    async for item in pager:
        items.append(item)
        if len(items) == count:
            break
    return items


@app.get("/api/extensions")
async def extensions(itwin: Session, search: str = "", limit: Limit = 50) -> list[Named]:
    """Public extensions with these letters in their name."""
    found = itwin.extensions.list_extensions(search=search or None, page_size=limit)
    return [Named(each.id, each.name, each.description) for each in await first(found, limit)]


@app.get("/api/itwins")
async def itwins(itwin: Session, limit: Limit = 100) -> list[Named]:
    """The iTwins this app may see."""
    found = await first(itwin.itwins.list_itwins(page_size=limit), limit)
    return [Named(each.id, each.display_name or each.id) for each in found]


@app.get("/api/itwins/{itwin_id}/imodels")
async def imodels(itwin: Session, itwin_id: UUID, limit: Limit = 100) -> list[Named]:
    """The iModels of an iTwin."""
    found = await first(itwin.imodels.list_imodels(str(itwin_id), page_size=limit), limit)
    return [Named(each.id, each.display_name or each.id) for each in found]


@app.get("/health")
async def health(itwin: Session) -> dict[str, str | int]:
    """That the app runs, and what its session has done. Asks nothing of the platform."""
    under_way = {"in_use": itwin.limiter.in_use, "waiting": itwin.limiter.waiting}
    return {"status": "ok", **asdict(itwin.stats), **under_way}


class Changes(msgspec.Struct, rename="camel"):
    """Which files a changeset changed, and in which task."""

    changed_files: list[str]
    task_id: str


class Payload(msgspec.Struct):
    """What the extended data of a changeset holds."""

    data: Changes


Item: TypeAlias = Changeset | ExtendedData[Payload]


class Line(msgspec.Struct, tag_field="kind", tag=str.lower, omit_defaults=True):
    """A line of the stream: what one of the two lists says of a changeset."""

    index: int


class Pushed(Line):
    """The changeset itself; ``size`` is in bytes."""

    id: str
    description: str | None = None
    pushed: datetime | None = None
    size: int | None = None


class Files(Line):
    """What it changed, or the problem with its extended data, which costs only itself."""

    files: list[str] | None = None
    problem: str | None = None


def line_of(item: Item) -> bytes:
    """The line for an item of either list."""
    line: Line
    if isinstance(item, Changeset):
        line = Pushed(item.index, item.id, item.description, item.push_date_time, item.file_size)
    else:
        try:
            line = Files(item.changeset_index, files=item.data.data.changed_files)
        except PayloadError as error:
            line = Files(item.changeset_index, problem=str(error))
    return msgspec.json.encode(line) + b"\n"


async def both_lists(itwin: Session, imodel_id: UUID) -> AsyncIterator[Merged[Item]]:
    """Changesets and their extended data as one stream, closed however the response ends."""
    lists: list[AsyncIterable[Item]] = [
        itwin.imodels.list_changesets(str(imodel_id), order="asc"),
        itwin.imodels.list_extended_data(str(imodel_id), Payload),
    ]
    async with merged(lists, workers=len(lists)) as items:
        yield items


@app.get("/api/imodels/{imodel_id}/changes")
async def changes(items: Annotated[Merged[Item], Depends(both_lists)]) -> StreamingResponse:
    """An iModel's changesets and the files they changed, as lines of JSON while they arrive."""
    beginning = await anext(items, None)  # an error up to here still has a status of its own

    async def lines() -> AsyncIterator[bytes]:
        try:
            if beginning is not None:
                yield line_of(beginning)
            async for item in items:  # asks for more only after the line before was taken
                yield line_of(item)
        except ITwinError as error:
            yield msgspec.json.encode({"error": problem_of(error)}) + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


app.mount("/", StaticFiles(directory=PAGE, html=True))
