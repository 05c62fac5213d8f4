"""Pages as no well-behaved server sends them, one call at a time, on the raw server."""

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from support import Connection, Got, RawServer, session_at

from itwin_async import ITwinSession, Limiter, Pager, Retry

IMODEL = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"
PATH = f"/imodels/{IMODEL}/changesets/extendeddata"
QUICK = Retry(base=0.001, cap=0.002)


class Call:
    """One request, and the pen for its answer."""

    def __init__(self, server: "PageServer", number: int, got: Got, connection: Connection) -> None:
        self.server = server
        self.number = number  # from 0, over all connections
        self.target = got.target
        self.headers = got.headers
        self.connection = connection

    @property
    def skip(self) -> int:
        """The `$skip` that was asked for."""
        return int(parse_qs(self.target.partition("?")[2]).get("$skip", ["0"])[0])

    async def send(self, data: bytes, piece: int = 1 << 16) -> None:
        """Send, as fast as the client reads."""
        for start in range(0, len(data), piece):
            part = data[start : start + piece]
            await self.connection.send(part)
            self.server.sent += len(part)

    async def head(
        self, length: int | None, status: int = 200, kind: str = "application/json"
    ) -> None:
        """Status line and headers; chunked without a length."""
        how = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        lines = f"HTTP/1.1 {status} Said\r\nContent-Type: {kind}\r\n{how}\r\n\r\n"
        await self.connection.send(lines.encode())

    async def body(self, text: bytes, status: int = 200, kind: str = "application/json") -> None:
        """A whole answer."""
        await self.head(len(text), status, kind)
        await self.send(text)

    async def json(self, value: object, status: int = 200) -> None:
        """A whole answer of JSON."""
        await self.body(json.dumps(value).encode(), status)

    async def cut(
        self, text: bytes, at: int, *, chunked: bool = False, reset: bool = False
    ) -> None:
        """The first bytes of an answer, and the end of the connection."""
        await self.head(None if chunked else len(text))
        if chunked and at:
            await self.send(b"%x\r\n" % len(text))
        await self.send(text[:at])
        if reset:
            self.connection.reset()
        else:
            self.connection.writer.close()

    async def until(self, event: asyncio.Event) -> None:
        """Wait for an event, as long as the client is there."""
        reader = self.connection.reader
        while not event.is_set():
            if reader.at_eof() or reader.exception() is not None:
                raise ConnectionResetError
            await asyncio.sleep(0.002)

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        with contextlib.suppress(ConnectionError):  # it may have left data unread
            await self.connection.gone()


class PageServer(RawServer):
    """Calls ``answer(call)`` for each request; keeps the calls, and counts what goes out."""

    def __init__(self, answer: Callable[[Call], Awaitable[object]]) -> None:
        super().__init__(self._each)
        self._answer = answer
        self.calls: list[Call] = []
        self.sent = 0  # bytes of bodies that went out
        self.in_flight = 0
        self.most = 0  # requests at once
        self.problems: list[Exception] = []  # of the test's own answers

    @property
    def targets(self) -> list[str]:
        """Path and query of each request, as sent."""
        return [call.target for call in self.calls]

    async def _each(self, connection: Connection) -> None:
        plug = connection.writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        connection.writer.transport.set_write_buffer_limits(0)
        while not connection.writer.is_closing():
            call = Call(self, len(self.calls), await connection.request(), connection)
            self.calls.append(call)
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            try:
                await self._answer(call)
            except OSError:
                raise
            except Exception as problem:
                self.problems.append(problem)
                raise
            finally:
                self.in_flight -= 1

    async def __aexit__(self, *details: object) -> None:
        await super().__aexit__(*details)
        assert not self.problems


def entry(index: int, size: int = 0) -> dict[str, object]:
    """One entry; its payload has about so many bytes."""
    payload = json.dumps({"n": index, "pad": "}" * size}).encode()
    data = base64.b64encode(payload).decode()
    return {"changesetId": f"{index:040x}", "changesetIndex": index, "data": data}


def page(entries: list, following: object = None) -> bytes:
    """A page as the platform writes it; ``following`` is its next link, as text or as JSON."""
    link = {"href": following} if isinstance(following, str) else following
    return json.dumps({"extendedData": entries, "_links": {"next": link}}).encode()


def entries(first: int, count: int, size: int = 0) -> list:
    """Entries in a row."""
    return [entry(index, size) for index in range(first, first + count)]


def borders(text: bytes) -> list[int]:
    """Where one entry of a page ends and the next begins."""
    found, at = [], 0
    while (at := text.find(b'"}', at)) >= 0:
        at += 2
        found.append(at)
    return found


def listing(total: int, per: int, size: int = 0) -> Callable[[Call], Awaitable[None]]:
    """Answers with a list in pages of ``per``, whatever `$top` is asked for."""

    async def answer(call: Call) -> None:
        first = call.skip
        count = max(0, min(per, total - first))
        more = first + per < total
        here = call.target.partition("?")[0]
        link = f"{call.server.url}{here}?$skip={first + per}&$top=100" if more else None
        await call.body(page(entries(first, count, size), link))

    return answer


def client(server: Any, **options: Any) -> ITwinSession:
    """A session with a server, quick to try again."""
    options.setdefault("retry", QUICK)
    if hasattr(server, "credentials"):
        return ITwinSession(server.credentials, base_url=server.url, **options)
    return session_at(server, **options)


def numbers(items: Iterable[Any]) -> list[int]:
    """The indexes of entries."""
    return [item.changeset_index for item in items]


async def collect(pager: Pager[Any]) -> list[int]:
    """The indexes of a whole list."""
    return [item.changeset_index async for item in pager]


async def at_rest(server: PageServer) -> int:
    """How many requests there are once no more come for many turns of the loop."""
    before, turns = -1, 0
    while turns < 20:  # one wait of as long would be over, where the machine pauses this process
        turns = turns + 1 if before == len(server.calls) else 0
        before = len(server.calls)
        await asyncio.sleep(0.001)
    return before


async def settled(limiter: Limiter) -> None:
    """A few turns of the loop, then no slot may be taken."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert limiter.in_use == 0
    assert limiter.waiting == 0
