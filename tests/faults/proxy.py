"""A network of any quality in front of a server: latency, rate, slicing, FIN, RST, black hole."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True)
class Line:
    """What a connection is like from now on; sizes in bytes, times in seconds."""

    latency: float = 0.0  # before each piece, in both directions
    rate: float = 0.0  # a second, towards the client; 0 is no bound
    slice: int = 65_536  # the largest piece
    cut_after: int | None = None  # so many bytes towards the client, then ``end``
    end: str = "FIN"  # or "RST"
    black_hole: bool = False  # takes everything, passes nothing on


class Proxy:
    """Passes bytes on between a client and ``upstream``, as good as ``line`` allows."""

    def __init__(self, upstream: str, line: Line | None = None) -> None:
        self._host, _, port = upstream.rpartition("//")[2].partition(":")
        self._upstream = int(port)
        self.line = line or Line()
        self.port = 0
        self.opened = 0  # connections, ever
        self.open = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where clients find it; the same from its first listening on."""
        return f"http://{self._host}:{self.port}"

    async def listen(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(self._accept, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        for _ in range(10):  # what was accepted just now begins
            await asyncio.sleep(0)
        if self._server is not None:
            self._server.close()
            self._server = None

    @contextmanager
    def being(self, **changes: object) -> Iterator[None]:
        """Another line for a while."""
        before, self.line = self.line, replace(self.line, **changes)
        try:
            yield
        finally:
            self.line = before

    def drop(self, end: str = "FIN", most: int | None = None) -> None:
        """End open connections, now: all, or so many of them."""
        for writer in list(self._writers)[:most]:
            _end(writer, end)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self._writers.add(writer)
        self.opened += 1
        self.open += 1
        beyond = None
        try:
            back, beyond = await asyncio.open_connection(self._host, self._upstream)
            ways = (
                self._dispatch(reader, beyond, back=False),
                self._dispatch(back, writer, back=True),
            )
            both = [asyncio.ensure_future(way) for way in ways]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in both:
                    way.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for item in (writer, beyond):
                if item is not None:
                    item.close()
            self.open -= 1
            self._writers.discard(writer)
            self._tasks.discard(asyncio.current_task())

    async def _dispatch(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool
    ) -> None:
        passed = 0
        while data := await reader.read(65_536):
            at = 0
            while at < len(data):
                line = self.line
                if line.black_hole:
                    break
                piece = data[at : at + line.slice]
                if back and line.cut_after is not None:
                    piece = piece[: max(0, line.cut_after - passed)]
                if line.latency or (back and line.rate):
                    pause = len(piece) / line.rate if back and line.rate else 0.0
                    await asyncio.sleep(line.latency + pause)
                writer.write(piece)
                await writer.drain()
                at += len(piece)
                passed += len(piece)
                if back and line.cut_after is not None and passed >= line.cut_after:
                    await asyncio.sleep(0.005)  # a reset throws away what was not read yet
                    _end(writer, line.end)
                    return


def _end(writer: asyncio.StreamWriter, end: str) -> None:
    if end == "RST":
        plug = writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()
