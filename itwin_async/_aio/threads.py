"""Work that a cancellation waits for, in a thread or in a task of its own."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import anyio

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run a function in a thread. A cancellation waits until it returns, and is raised then."""
    return await completed(asyncio.get_running_loop().run_in_executor(None, function, *args))


async def completed(running: asyncio.Future[T], *, grace: float | None = None) -> T:
    """The result of a future. A cancellation waits until it is done, and is raised then.

    ``grace`` bounds that wait, in seconds: after it the future is cancelled.
    """
    cancelled: asyncio.CancelledError | None = None
    loop = asyncio.get_running_loop()
    deadline: float | None = None
    with anyio.CancelScope(shield=True):  # otherwise anyio cancels again at each turn of the loop
        while not running.done():
            left = None if deadline is None else max(0.0, deadline - loop.time())
            try:
                await asyncio.wait([running], timeout=left)
            except asyncio.CancelledError as error:
                cancelled = error
                if grace is not None and deadline is None:
                    deadline = loop.time() + grace
            if deadline is not None and loop.time() >= deadline:
                running.cancel()
    if cancelled is not None:
        if not running.cancelled():
            running.exception()  # retrieved, so that asyncio does not log it
        raise cancelled
    return running.result()


class DedicatedThread:
    """A thread that runs functions one after the other, for work that belongs to one thread.

    It is a daemon: a caller may stop waiting for it, and it never keeps the process from ending.
    `close` ends it once everything that was started is done.
    """

    def __init__(self, name: str) -> None:
        self._work: Final[queue.SimpleQueue[Callable[[], None] | None]] = queue.SimpleQueue()
        self._loop: Final = asyncio.get_running_loop()
        threading.Thread(target=self._run, name=f"itwin_async {name}", daemon=True).start()

    def start(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Run a function after those that were started before; the future of its result."""
        future: asyncio.Future[T] = self._loop.create_future()

        def run() -> None:
            try:
                outcome: T | BaseException = function(*args)
                failed = False
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                outcome, failed = error, True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(_settle, future, outcome, failed)

        self._work.put(run)
        return future

    def close(self) -> None:
        """End once everything that was started is done."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def _settle(future: asyncio.Future[Any], outcome: Any, failed: bool) -> None:  # noqa: FBT001
    if future.done():  # nobody waits for it any more
        return
    if failed:
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
