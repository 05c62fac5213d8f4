"""The web example over HTTP: its responses, its errors, and what it cancels."""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import fastapi_app
import pytest
from fastapi import BackgroundTasks, FastAPI, Request
from serving import FOREVER, SUN_CITY, serving, under_way
from support import cancelled_at_each_await, until

from itwin_async import (
    DecodeError,
    ITwinSession,
    LinkError,
    RateLimitError,
    Retry,
    ServerError,
    TransportError,
    UnauthorizedError,
)
from itwin_async.emulator import Cut, Delay, Edit, Emulator, Garbage, Slow, Status, Throttle

CHANGES = f"/api/imodels/{SUN_CITY}/changes"


@asynccontextmanager
async def web_client(emulator, monkeypatch):
    """A client of the example, which runs in front of this emulator and retries soon."""
    monkeypatch.setattr(fastapi_app, "RETRY", Retry(3, base=0.001, max_throttled=10))
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    async with serving(fastapi_app.app) as url, aiohttp.ClientSession(url) as http:
        yield http


@pytest.fixture
async def client(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web_client(emulator, monkeypatch) as browser:
        yield browser


async def lines(response):
    return [json.loads(line) async for line in response.content]


async def test_search_gives_what_the_platform_holds(client, itwin):
    async with client.get("/api/extensions", params={"search": "VIEWER"}) as response:
        shown = await response.json()
    found = [e async for e in itwin.extensions.list_extensions(search="VIEWER")]
    assert found
    assert shown == [{"id": e.id, "name": e.name, "description": e.description} for e in found]


async def test_a_limit_costs_one_request(client, emulator):
    async with client.get("/api/extensions", params={"limit": 3}) as response:
        assert len(await response.json()) == 3
    assert [request.query["$top"] for request in emulator.requests if request.query] == ["3"]
    async with client.get("/api/extensions", params={"limit": 0}) as response:
        assert response.status == 422


async def test_itwins_lead_to_imodels(client):
    async with client.get("/api/itwins") as response:
        ids = [entry["id"] for entry in await response.json()]
    names = []
    for id in ids:
        async with client.get(f"/api/itwins/{id}/imodels") as response:
            names += [entry["name"] for entry in await response.json()]
    assert len(names) == 6
    assert "Sun City Renewable-energy Plant" in names


async def test_every_changeset_and_its_files_come_once_and_in_order(client, emulator):
    async with client.get(CHANGES) as response:
        assert response.content_type == "application/x-ndjson"
        found = await lines(response)
    for kind in ("pushed", "files"):
        assert [entry["index"] for entry in found if entry["kind"] == kind] == list(range(1, 26))
    first = next(entry for entry in found if entry["kind"] == "files")
    assert first == {"kind": "files", "index": 1, "files": ["A.dgn", "B.dgn"]}
    assert emulator.count("token") == 1


async def test_a_bad_payload_costs_only_its_line(client, emulator):
    def spoil(page):
        page["extendedData"][3]["data"] = "no base64!"

    emulator.faults.add("list_extended_data", Edit(spoil))
    async with client.get(CHANGES) as response:
        files = [entry for entry in await lines(response) if entry["kind"] == "files"]
    assert len(files) == 25
    assert [entry["index"] for entry in files if "problem" in entry] == [4]
    assert "changeset 4 " in files[3]["problem"]


@pytest.mark.parametrize(
    ("fault", "status", "title"),
    [
        (Status(422), 400, "InvalidRequestError"),
        (Status(401), 502, "UnauthorizedError"),
        (Status(403), 403, "ForbiddenError"),
        (Status(404), 404, "NotFoundError"),
        (Status(409), 409, "ConflictError"),
        (Status(500), 502, "ServerError"),
        (Garbage(), 502, "DecodeError"),
    ],
)
async def test_an_error_becomes_a_problem(client, emulator, fault, status, title):
    emulator.faults.add("list_extensions", fault, times=None)
    async with client.get("/api/extensions") as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"
        problem = await response.json()
    assert problem["title"] == title
    assert problem["detail"]
    assert problem["request_id"] == emulator.requests[-1].headers["X-Correlation-Id"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TransportError("timed out", "timeout"), 504),
        (TransportError("refused", "refused"), 502),
        (UnauthorizedError(), 502),
        (LinkError(), 502),
        (DecodeError(), 502),
        (ServerError(), 502),
        (RateLimitError(), 503),
    ],
)
def test_what_is_not_the_clients_fault_is_a_5xx(error, status):
    assert fastapi_app.problem_of(error).status == status


async def test_a_long_throttle_becomes_a_503_at_once(client, emulator):
    emulator.faults.add("list_extensions", Throttle(retry_after=60), times=None)
    async with client.get("/api/extensions") as response:
        assert response.status == 503
        assert 60 <= int(response.headers["Retry-After"]) <= 70  # the limiter adds a little
    assert emulator.count("list_extensions") == 1


async def test_a_stream_that_cannot_start_has_a_status(client):
    async with client.get("/api/imodels/00000000-0000-0000-0000-000000000000/changes") as response:
        assert response.status == 404
        assert (await response.json())["title"] == "NotFoundError"
    async with client.get("/api/imodels/none/changes") as response:
        assert response.status == 422


async def test_an_error_in_mid_stream_is_the_last_line(monkeypatch):
    async with (
        Emulator(imodels=1, changesets=25, max_top=5) as emulator,
        web_client(emulator, monkeypatch) as client,
    ):
        emulator.faults.add("list_changesets", Status(403), after=2)
        emulator.faults.add("list_extended_data", Delay(FOREVER))
        async with client.get(CHANGES) as response:
            assert response.status == 200
            *before, last = await lines(response)
        assert [entry["index"] for entry in before] == list(range(1, 11))
        assert last["error"]["title"] == "ForbiddenError"
        assert last["error"]["status"] == 403
        await until(lambda: not under_way(emulator, "list_extended_data"))


async def test_health_sends_nothing_to_the_platform(client, emulator):
    async with client.get("/health") as response:
        before = await response.json()
    assert before["status"] == "ok"
    assert not emulator.requests
    async with client.get("/api/itwins") as response:
        assert response.ok
    async with client.get("/health") as response:
        after = await response.json()
    assert (before["requests"], after["requests"], after["renewals"]) == (0, 1, 1)
    assert after["in_use"] == after["waiting"] == 0
    assert len(emulator.requests) == 2


async def test_the_page_may_load_nothing_from_other_origins(client):
    async with client.get("/") as response:
        assert response.content_type == "text/html"
        text = await response.text()
    assert "default-src 'self'" in text
    for name in ("app.js", "style.css"):
        async with client.get(f"/{name}") as response:
            assert response.ok
            text += await response.text()
    markup = text.replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in markup
    assert "https:" not in markup
    assert "innerHTML" not in text


@pytest.mark.parametrize(
    ("path", "operation"),
    [("/api/extensions", "list_extensions"), (CHANGES, "list_changesets")],
    ids=["json", "stream before its beginning"],
)
async def test_a_disconnect_ends_the_request_upstream(client, emulator, path, operation):
    for name in (operation, "list_extended_data"):
        emulator.faults.add(name, Delay(FOREVER))
    asking = asyncio.create_task(client.get(path))
    await until(lambda: under_way(emulator, operation))
    asking.cancel()
    await until(lambda: not under_way(emulator, operation))
    await until(lambda: not under_way(emulator, "list_extended_data"))
    async with client.get("/health") as response:  # and the session still serves
        assert (await response.json())["in_use"] == 0
    async with client.get(path) as response:
        assert response.ok


async def test_a_disconnect_in_mid_stream_ends_it_upstream(client, emulator):
    emulator.faults.add("list_extended_data", Slow(1))
    async with client.get(CHANGES) as response:
        for _ in range(25):
            assert json.loads(await response.content.readline())["index"]
        await until(lambda: under_way(emulator, "list_extended_data"))
        response.close()
    await until(lambda: not under_way(emulator, "list_extended_data"))
    async with client.get(CHANGES) as response:
        assert len(await lines(response)) == 50


async def test_a_page_that_is_cut_short_is_not_noticed_downstream(client, emulator):
    emulator.faults.add("list_extended_data", Cut(700))
    async with client.get(CHANGES) as response:
        found = await lines(response)
    assert [entry["index"] for entry in found if entry["kind"] == "files"] == list(range(1, 26))


@pytest.mark.slow
@pytest.mark.parametrize("when", ["waiting", "ready"])
@pytest.mark.parametrize("path", ["/api/itwins", CHANGES], ids=["json", "stream"])
async def test_a_handler_that_is_cancelled_at_any_await_leaves_nothing(
    cancel_kind, when, path, emulator, itwin
):
    """As by a server that stops, or another middleware."""

    async def handle() -> bytes:
        sent = []
        received = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive():
            if not received:
                await asyncio.sleep(FOREVER)  # the client stays
            return received.pop()

        async def send(message) -> None:
            await asyncio.sleep(0)
            sent.append(message)

        scope = {
            "type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [],
            "state": {"itwin": itwin},
        }  # fmt: skip
        await fastapi_app.app(scope, receive, send)
        assert sent[0]["status"] == 200
        return b"".join(message["body"] for message in sent[1:])

    async def check(number: int) -> None:
        await until(lambda: all(record.ended for record in emulator.requests))
        await until(lambda: not itwin.limiter.in_use)
        assert not itwin.limiter.waiting

    awaits, body = await cancelled_at_each_await(cancel_kind, handle, check, when=when)
    assert awaits >= 4
    assert len(body.splitlines()) == (1 if path == "/api/itwins" else 50)


@pytest.fixture
async def stalled(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[Emulator, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A stream of 60 MB whose client takes its first bytes and then no more."""
    async with (
        Emulator(imodels=1, changesets=300, payload_bytes=200_000, max_top=5) as emulator,
        web_client(emulator, monkeypatch) as client,
    ):
        pipe = socket.socket()
        pipe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        pipe.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(pipe, (client._base_url.host, client._base_url.port))
        reader, writer = await asyncio.open_connection(sock=pipe, limit=2**20)
        writer.write(
            f"GET {CHANGES} HTTP/1.1\r\nHost: stalled\r\nConnection: close\r\n\r\n".encode()
        )
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        seen = -1
        while seen != (seen := emulator.count("list_extended_data")):
            await asyncio.sleep(0.2)
        yield emulator, reader, writer
        writer.close()


@pytest.mark.slow
async def test_a_slow_client_slows_the_requests_upstream(stalled):
    emulator, reader, _ = stalled
    assert emulator.count("list_extended_data") < 30  # of 60: the rest waits for the client
    assert (await reader.read()).count(b'"kind":"files"') == 300
    assert emulator.count("list_extended_data") == 60


async def test_a_stalled_client_that_leaves_ends_the_stream(stalled):
    emulator, _, writer = stalled
    writer.transport.abort()
    await until(lambda: not under_way(emulator, "list_extended_data"))
    assert emulator.count("list_extended_data") < 30


async def test_what_follows_the_response_is_not_cancelled():
    app, done, cancelled = FastAPI(), asyncio.Event(), asyncio.Event()
    app.add_middleware(fastapi_app.CancelOnDisconnect)

    async def afterwards():
        await asyncio.sleep(0.05)
        done.set()

    @app.post("/upload")
    async def upload(request: Request, tasks: BackgroundTasks) -> int:
        tasks.add_task(afterwards)
        return len(await request.body())

    @app.get("/forever")
    async def forever() -> None:
        try:
            await asyncio.sleep(FOREVER)
        finally:
            cancelled.set()

    async with serving(app) as url, aiohttp.ClientSession(url) as client:
        async with client.post("/upload", data=io.BytesIO(bytes(3_000_000))) as response:
            assert await response.json() == 3_000_000
        async with asyncio.timeout(10):
            await done.wait()
        with pytest.raises(TimeoutError):
            await client.get("/forever", timeout=aiohttp.ClientTimeout(0.2))
        async with asyncio.timeout(10):
            await cancelled.wait()


async def test_without_credentials_the_app_does_not_start(monkeypatch):
    monkeypatch.delenv("ITWIN_CLIENT_ID", raising=False)
    with pytest.raises(ValueError, match="ITWIN_CLIENT_ID is not set"):
        async with fastapi_app.lifespan(fastapi_app.app):
            pass


async def test_the_session_lives_as_long_as_the_app(emulator, monkeypatch):
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    async with fastapi_app.lifespan(fastapi_app.app) as state:
        session = state["itwin"]
        assert isinstance(session, ITwinSession)
        assert not session.closed
    assert session.closed
