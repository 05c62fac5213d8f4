"""A server on loopback for one answer of a browser: one path, one use, bounded in size and time."""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable
from html import escape
from types import TracebackType
from typing import Final, Self

from itwin_async._aio.loops import background
from itwin_async._core.secrets import SecretStr
from itwin_async._core.urls import Origin, split

_MAX_HEAD: Final = 32_768  # bytes of a request
_MAX_TIME: Final = 10.0  # seconds in which a request must arrive
_MAX_CONNECTIONS: Final = 32
_TURN: Final = 0.1  # seconds in which a browser closes its side once it has the page
_LINGER: Final = 0.4  # seconds in which it does once we closed ours
_ABSENT: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
_SECURITY: Final = (
    "Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n"
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
)
# Of a query: whether it is the one that is waited for. It gives title and text of the page.
QueryHandler = Callable[[SecretStr], tuple[str, str] | None]


class LoopbackServer:
    """Listens on the host and port of an http address on loopback, and answers its path alone.

    ``answer`` is given the query of each GET of the path, and gives the title and text of the page
    when that is what is waited for, else None: then the browser is told so, and the wait goes on.
    `wait` is over after the page went out. Leaving a started server frees its port.
    """

    def __init__(self, uri: str, answer: QueryHandler) -> None:
        parts = split(uri)
        if parts is None:
            raise ValueError("the address to listen on must be an absolute URL")
        self._origin: Final = parts[0]
        self._path: Final = parts[1].partition("?")[0]
        self._answer = answer
        self._servers: list[asyncio.Server] = []
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self._answered: Final[asyncio.Event] = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.aclose(linger=_TURN + _LINGER if kind is None else 0.0)

    async def start(self) -> None:
        """Listen; `OSError` where a port is taken, on any of the addresses a browser may try."""
        try:
            for host in _addresses(self._origin):
                try:
                    server = await asyncio.start_server(
                        self._accept, host, self._origin.port, limit=_MAX_HEAD
                    )
                except OSError as error:
                    if self._servers and error.errno in _ABSENT:
                        continue  # localhost is one address here
                    raise
                self._servers.append(server)
        except BaseException:
            await self.aclose(linger=0.0)
            raise

    async def wait(self) -> None:
        """Wait until the answer came and its page went out."""
        await self._answered.wait()

    async def aclose(self, *, linger: float) -> None:
        """Free the port at once; a browser has ``linger`` seconds to close its side."""
        for server in self._servers:
            server.close()
        try:
            if linger and self._connections:
                await asyncio.wait(self._connections.values(), timeout=linger)
        finally:
            for writer, task in list(self._connections.items()):
                task.cancel()
                _reset(writer)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _MAX_CONNECTIONS:
            _reset(writer)
            return
        task = background(self._serve(reader, writer), "sign-in page")
        self._connections[writer] = task
        task.add_done_callback(lambda _: self._connections.pop(writer, None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answered = False
        try:
            async with asyncio.timeout(_MAX_TIME):
                request = SecretStr((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
                status, page, answered = self._respond(request)
                del request
                writer.write(page if status else b"")
                await writer.drain()
                if answered:
                    self._answered.set()
                # Who closes first keeps the port busy for a minute: that is the browser's part.
                if not await _ended(reader, _TURN):
                    writer.write_eof()
                    await _ended(reader, _LINGER)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # no browser, or one that is gone
        finally:
            if answered:
                self._answered.set()
            _reset(writer)

    def _respond(self, request: SecretStr) -> tuple[int, bytes, bool]:
        """Status and bytes of the response, and whether this was what is waited for."""
        line = SecretStr(request.partition("\r\n")[0])
        method, _, rest = line.partition(" ")
        target = SecretStr(rest.partition(" ")[0])
        del rest, line
        path, _, query = target.partition("?")
        query = SecretStr(query)
        if path != self._path:
            return 404, _page(404, "Not found", "There is nothing here.", "Not Found"), False
        if method != "GET":
            page = _page(405, "Not allowed", "Open this page in a browser.", "Method Not Allowed")
            return 405, page, False
        answer = None if self._answered.is_set() else self._answer(query)
        if answer is None:
            text = "This is not the answer to the sign-in that is waiting. Sign in again."
            return 400, _page(400, "Another sign-in", text, "Bad Request"), False
        return 200, _page(200, *answer, "OK"), True


async def _ended(reader: asyncio.StreamReader, seconds: float) -> bool:
    """Whether the other side closes within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            while await reader.read(_MAX_HEAD):
                pass
    except TimeoutError:
        return False
    return True


def _addresses(origin: Origin) -> list[str]:
    """Where to listen: both addresses of localhost, for a browser may try either first."""
    host = origin.host.strip("[]")
    if host == "localhost" or host.endswith(".localhost"):
        return ["127.0.0.1", "::1"]
    return [host]


def _page(status: int, title: str, text: str, phrase: str) -> bytes:
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{escape(title)}</title>"
        '<body style="font-family:sans-serif;max-width:40em;margin:4em auto">'
        f"<h1>{escape(title)}</h1><p>{escape(text)}</p></body></html>"
    ).encode()
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/html; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n{_SECURITY}\r\n"
    )
    return head.encode() + body


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that it does not keep the port busy."""
    found = writer.get_extra_info("socket")
    if found is not None:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
