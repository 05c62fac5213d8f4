"""A web backend on the iTwin Platform: JSON, a stream with backpressure, a webhook, a page.

One session serves the app for its whole life. When a client disconnects, the app cancels the
requests it sent on its behalf; when a client reads slowly, the app reads the platform's responses
slowly, and buffers nothing. When a webhook says that there are new changesets, the page shows them.

    python -m itwin_async.emulator --port 8080 --export  # elsewhere; paste what it prints
    uvicorn --app-dir examples fastapi_app:app     # then open http://127.0.0.1:8000

``ITWIN_WEBHOOK_SECRET`` is the secret of the webhook whose callback is ``/webhook`` here.
"""

import asyncio
import math
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, TypeAlias, TypedDict, TypeVar
from uuid import UUID

import anyio
import msgspec
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from live_changes import Inbox, Item, LiveChanges, Payload, Subscription, line_of
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from itwin_async import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    ITwinError,
    ITwinSession,
    Merged,
    NotFoundError,
    Pager,
    RateLimitError,
    Retry,
    TransportError,
    merged,
)
from itwin_async.webhooks import IModelEvent, WebhookEvent, verify

T = TypeVar("T")
encode: Final = msgspec.json.encode
RETRY: Final = Retry(3, max_throttled=10)  # fewer than by default: a user is waiting
PAGE: Final = Path(__file__).parent / "static"
MOST_OF_AN_EVENT: Final = 65_536  # bytes of its body


class State(TypedDict):
    """What every request finds in ``request.state``."""

    itwin: ITwinSession
    live: LiveChanges
    inbox: Inbox


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[State]:
    """Open the session with the app, in its event loop, and close it with the app."""
    async with (
        ITwinSession.from_env(retry=RETRY, timeout=20) as itwin,
        anyio.create_task_group() as tasks,
    ):
        live = LiveChanges(itwin, tasks)

        def handle(event: WebhookEvent) -> None:
            if isinstance(event, IModelEvent):
                live.notify(event.imodel_id)

        inbox = Inbox(handle)
        tasks.start_soon(inbox.run)
        try:
            yield {"itwin": itwin, "live": live, "inbox": inbox}
        finally:
            tasks.cancel_scope.cancel()


async def the_session(request: Request) -> ITwinSession:
    """The session that all requests share."""
    itwin: ITwinSession = request.state.itwin
    return itwin


Session: TypeAlias = Annotated[ITwinSession, Depends(the_session)]


class CancelOnDisconnect:
    """Cancels the handling of a request when its client disconnects, which ASGI servers do not do.

    What runs after the complete response, such as a background task, goes on.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, and cancel that when its client disconnects."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        inbox: asyncio.Queue[Message] = asyncio.Queue(1)  # an upload is read as fast as it is used

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
app.add_middleware(CancelOnDisconnect)


@dataclass(frozen=True)
class Problem:
    """An error as a client gets it (RFC 9457): as a response, or as the last line of a stream."""

    status: int
    title: str
    detail: str
    request_id: str | None


# 502 for the rest: the platform or our credentials are at fault, and not the client.
STATUS: Final[dict[type[ITwinError], int]] = {
    InvalidRequestError: 400,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    RateLimitError: 503,
}


def problem_of(error: ITwinError) -> Problem:
    """The problem to show for an error; errors hold no token, secret or signed URL."""
    status = STATUS.get(type(error), 502)
    if isinstance(error, TransportError) and error.reason == "timeout":
        status = 504
    return Problem(status, type(error).__name__, str(error), error.request_id)


@app.exception_handler(ITwinError)
async def problem_response(_request: Request, error: ITwinError) -> JSONResponse:
    """Respond with a problem for every error that a handler does not deal with itself."""
    problem = problem_of(error)
    headers: dict[str, str] = {}
    if isinstance(error, RateLimitError) and error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    return JSONResponse(asdict(problem), problem.status, headers, "application/problem+json")


@dataclass(frozen=True)
class Named:
    """What the page shows of an extension, iTwin or iModel."""

    id: str
    name: str
    description: str | None = None


Limit: TypeAlias = Annotated[int, Query(ge=1, le=100)]


async def first(pager: Pager[T], count: int) -> list[T]:
    """The first items of a list, without requesting a page beyond them."""
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
    return [Named(item.id, item.name, item.description) for item in await first(found, limit)]


@app.get("/api/itwins")
async def itwins(itwin: Session, limit: Limit = 100) -> list[Named]:
    """The iTwins this app may see."""
    found = await first(itwin.itwins.list_itwins(page_size=limit), limit)
    return [Named(item.id, item.display_name or item.id) for item in found]


@app.get("/api/itwins/{itwin_id}/imodels")
async def imodels(itwin: Session, itwin_id: UUID, limit: Limit = 100) -> list[Named]:
    """The iModels of an iTwin."""
    found = await first(itwin.imodels.list_imodels(str(itwin_id), page_size=limit), limit)
    return [Named(item.id, item.display_name or item.id) for item in found]


@app.get("/health")
async def health(itwin: Session) -> dict[str, str | int]:
    """Show that the app runs, and the counts of its session. Sends no request to the platform."""
    slots = {"in_use": itwin.limiter.in_use, "waiting": itwin.limiter.waiting}
    return {"status": "ok", **asdict(itwin.stats), **slots}


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
    first_item = await anext(items, None)  # an error up to here still has its own status

    async def lines() -> AsyncIterator[bytes]:
        try:
            if first_item is not None:
                yield encode(line_of(first_item)) + b"\n"
            async for item in items:  # requests more only when the line before was sent
                yield encode(line_of(item)) + b"\n"
        except ITwinError as error:
            yield encode({"error": problem_of(error)}) + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


@app.post("/webhook")
async def webhook(request: Request) -> None:
    """Take what the platform delivers: check the signature, answer at once, and work later."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_OF_AN_EVENT:
            raise HTTPException(413, "No event is as long as that.")
    secret = os.environ.get("ITWIN_WEBHOOK_SECRET", "")
    try:
        event = verify(bytes(body), request.headers.get("Signature"), secret)
    except ValueError as error:
        raise HTTPException(401, str(error)) from None
    inbox: Inbox = request.state.inbox
    try:
        inbox.put(event)
    except asyncio.QueueFull:  # it comes again
        raise HTTPException(503, "Too many events are waiting.") from None


async def subscription(
    request: Request, imodel_id: UUID, after: Annotated[int, Query(ge=0)]
) -> AsyncIterator[Subscription]:
    """What is new behind an index, which a page gives anew each time it connects."""
    live: LiveChanges = request.state.live
    async with live.subscribe(str(imodel_id), after) as lines:
        yield lines


@app.get("/api/imodels/{imodel_id}/live")
async def live_changes(
    lines: Annotated[Subscription, Depends(subscription)],
) -> StreamingResponse:
    """New changesets of an iModel and the files they changed, as server-sent events."""

    async def events() -> AsyncIterator[bytes]:
        with suppress(ITwinError):  # the page connects again
            async for line in lines:
                # A comment keeps the connection, or shows that it is gone.
                yield b": nothing new\n\n" if line is None else b"data: " + encode(line) + b"\n\n"

    return StreamingResponse(
        events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


app.mount("/", StaticFiles(directory=PAGE, html=True))
