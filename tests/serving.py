"""The web example on a real socket, in the loop of the test, in front of an emulator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from support import until

from itwin_async.emulator import Emulator

SUN_CITY = "5e19bee0-3aea-4355-a9f0-c6df9989ee7d"  # the emulator's documented iModel
FOREVER = 3_600  # seconds: what ends sooner was cancelled


@asynccontextmanager
async def serving(app: FastAPI, port: int = 0) -> AsyncIterator[str]:
    """The app on a free port or this one, with its lifespan; gives its URL."""
    config = uvicorn.Config(app, port=port, log_config=None, lifespan="on", ws="none")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    await until(lambda: server.started or running.done())
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


def under_way(emulator: Emulator, operation: str) -> int:
    """How many requests of this operation arrived and are not over."""
    records = list(emulator.requests)
    return sum(record.operation == operation and record.ended is None for record in records)
