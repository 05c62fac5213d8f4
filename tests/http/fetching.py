"""One request to a raw server, and how it fails."""

import asyncio
from typing import Any

import pytest
from support import Connection, Handler, RawServer, session_at, until

from itwin_async import (
    ITwinError,
    Retry,
)

ONCE = Retry(attempts=1)


def once(*pieces: bytes, reset: bool = False) -> Handler:
    """A server that sends this to a request and ends the connection."""

    async def handler(connection: Connection) -> None:
        await connection.request()
        await connection.send(*pieces)
        if reset:
            await asyncio.sleep(0.01)  # what was sent is read first
            connection.reset()

    return handler


async def fails(handler: bytes | Handler, **options: Any) -> ITwinError:
    async with (
        RawServer(handler) as server,
        session_at(server, **{"retry": ONCE, **options}) as itwin,
    ):
        with pytest.raises(ITwinError) as caught:
            async with asyncio.timeout(20):
                await itwin.packages.get_package("P")
        await until(lambda: server.open == 0)
        assert not itwin._executor._transport.open_responses
        assert len(server.requests) <= 1
    return caught.value
