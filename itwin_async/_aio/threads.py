"""Work that a cancellation does not leave half done, in a thread or in a task of its own."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run a function in a thread, to its end: a cancellation waits for it, so nothing is half."""
    return await completed(asyncio.get_running_loop().run_in_executor(None, function, *args))


async def completed(running: asyncio.Future[T]) -> T:
    """The result of work that has begun. A cancellation waits for its end, and is raised then."""
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):  # else anyio would cancel at each turn of the loop
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        running.exception()  # looked at, or asyncio complains
        raise cancelled
    return running.result()
