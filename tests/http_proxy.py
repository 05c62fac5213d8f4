"""An HTTP proxy: it tunnels and forwards, wants a password, or refuses."""

import asyncio
import base64
import ssl
from typing import Self

USER = "me:canary-of-the%3Ap%40ss"  # as it stands in a URL
BASIC = f"Basic {base64.b64encode(b'me:canary-of-the:p@ss').decode()}"


class HttpProxy:
    """A proxy that tunnels (CONNECT) and forwards (http), for whoever has the password."""

    def __init__(
        self, *, password: bool = False, status: int = 200, ssl: ssl.SSLContext | None = None
    ) -> None:
        self.password, self.status, self._ssl = password, status, ssl
        self.heads: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._ssl)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.scheme = "https" if self._ssl else "http"
        self.url = f"{self.scheme}://{self.address}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heads.append(head)
        method, target, _ = head.partition("\r\n")[0].split(" ")
        status = self.status
        if self.password and f"Proxy-Authorization: {BASIC}\r\n" not in head:
            status = 407
        if status != 200:
            writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
            return
        address = target if method == "CONNECT" else target.split("/")[2]
        host, _, port = address.partition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            head = head.replace(f"http://{address}", "", 1).replace(
                "\r\n", "\r\nConnection: close\r\n", 1
            )
            far_writer.write(head.encode("latin-1"))
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, far_writer))
                both.create_task(self._copy(far_reader, writer))
        finally:
            far_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
        writer.write_eof() if writer.can_write_eof() else None
