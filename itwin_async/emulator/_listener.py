"""The HTTP server: it listens, and stops without leaving anything behind."""

import asyncio
import contextlib
from typing import Final

from aiohttp import web

from itwin_async._aio.threads import completed
from itwin_async.emulator._arguments import check_int, check_str
from itwin_async.emulator._pipeline import Pipeline

# Clients do not send a token to the address of all interfaces.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_TURNS_TO_ACCEPT: Final = 5  # of the loop
_TURNS_TO_ABORT: Final = 100


class Listener:
    """Serves a pipeline on a host and a port, once at a time."""

    def __init__(self, pipeline: Pipeline, host: str, port: int) -> None:
        check_str("host", host)
        check_int("port", port, 0, 65_535)
        self._pipeline = pipeline
        self._address = host, port
        self._http: web.Server | None = None
        self._socket: asyncio.Server | None = None
        self.url = ""

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._socket is not None

    async def start(self) -> None:
        """Listen; ``url`` is known from now on. Raises `OSError` where that is not possible."""
        if self._socket is not None:
            raise RuntimeError("the emulator is running already")
        loop = asyncio.get_running_loop()
        self._http = web.Server(self._pipeline.serve, handler_cancellation=True, access_log=None)
        host, port = self._address
        listener = await loop.create_server(self._http, host, port, start_serving=False)
        try:
            await listener.start_serving()
        except BaseException:  # cancelled: nobody else is going to close it
            listener.close()
            raise
        self._socket = listener
        bound, port = listener.sockets[0].getsockname()[:2]
        host = _LOOPBACK.get(bound, host)
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop at once, also in the middle of responses; a cancellation waits for the end."""
        listener, http = self._socket, self._http
        if listener is None or http is None:
            return
        self._socket = None
        await completed(asyncio.create_task(_close(listener, http)))


async def _close(listener: asyncio.Server, http: web.Server) -> None:
    # asyncio fails over a connection that was accepted and has no transport yet when its
    # listener closes: it gets a few turns of the loop, and no other is accepted meanwhile.
    for listening in listener.sockets:
        with contextlib.suppress(NotImplementedError):  # Windows' loop accepts otherwise
            asyncio.get_running_loop().remove_reader(listening.fileno())
    for _ in range(_TURNS_TO_ACCEPT):
        await asyncio.sleep(0)
    listener.close()
    # The loss of its connection cancels a handler, and none shields itself: a few turns of the
    # loop are enough.
    for _ in range(_TURNS_TO_ABORT):
        for connection in http.connections:
            if connection.transport is not None:
                connection.transport.abort()
            await asyncio.sleep(0)
    await http.shutdown(0)
    await listener.wait_closed()
