"""Tasks that wait in line, woken one at a time."""

import asyncio
import contextlib
from collections import deque


class WaitQueue:
    """Tasks that wait for a condition. They check it again when they are woken.

    `notify` wakes one task, so that its cost does not depend on how many wait. A task that is
    cancelled after it was woken wakes the next one in its place.
    """

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Wait until this task is woken."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.notify()
            else:
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)
            raise

    def notify(self) -> None:
        """Wake the task that has waited longest."""
        waiters = self._waiters
        while waiters:
            waiter = waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def notify_all(self) -> None:
        """Wake every task that waits."""
        while self._waiters:
            self.notify()
