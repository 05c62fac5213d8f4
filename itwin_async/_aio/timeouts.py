"""How waits end early: with an error of ours, as `asyncio.timeout` does it, or at a deadline."""

import asyncio
import math
from typing import Final, Self

import anyio

from itwin_async.errors import TransportError

EXPIRY_MARGIN: Final = (
    0.001  # seconds behind its time from which a timer was held up by a busy loop
)
_TURNS: Final = 4  # of the loop, in which what has arrived at a socket reaches who waits for it


def visible_deadline() -> float:
    """The time of the loop's clock at which the caller's anyio scopes end; infinity without any.

    A scope that is cancelled already has no deadline to keep: the next await is cancelled, and an
    error raised before it would hide that.
    """
    deadline = anyio.current_effective_deadline()
    return math.inf if deadline == -math.inf else deadline


class InterruptScope:
    """A stretch of a task that may be ended from outside.

    `interrupt` cancels the task, and the cancellation that is its own becomes the error; one that
    comes from elsewhere stays what it is.
    """

    __slots__ = ("_cancelling", "_error", "_task")

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("itwin_async must be awaited in an asyncio task")
        self._task = task
        self._cancelling = task.cancelling()
        self._error: BaseException | None = None
        return self

    def interrupt(self, error: BaseException) -> None:
        """End the stretch with this error; nothing if it ends itself, or was ended already."""
        if self._error is None and self._task is not asyncio.current_task():
            self._error = error
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, cancelled: object = None, *_: object
    ) -> None:
        if (
            self._error is not None
            and self._task.uncancel() <= self._cancelling
            and isinstance(cancelled, asyncio.CancelledError)
        ):
            cancelled.__traceback__ = None  # the error keeps it, and its frames show requests
            raise self._error from None


class Timeout(InterruptScope):
    """A limit of ``seconds`` on the time spent in its ``with`` blocks, all together.

    `restart` grants the whole time anew. One timer serves all blocks; it is moved, not made anew,
    so that a block costs little; `cancel` ends it. A timer that fires late was held up by a blocked
    loop, and such time is no waiting: the wait gets as much longer, once, and in any case a few
    turns of the loop, in which what has arrived is read.
    """

    __slots__ = ("_deadline", "_extended", "_handle", "_left", "_turns", "message", "seconds")

    def __init__(self, seconds: float, message: str) -> None:
        self.seconds: Final = seconds
        self.message = message
        self._left = seconds
        self._deadline = math.inf  # while nobody waits
        self._extended = False
        self._handle: asyncio.Handle | None = None

    def error(self) -> Exception:
        """What a wait beyond the limit raises."""
        return TransportError(self.message, "timeout")

    def restart(self) -> None:
        """Grant the whole time anew; not within a block."""
        self._left = self.seconds
        self._extended = False

    def suspend(self) -> None:
        """Count no time from now on; within a block."""
        self._deadline = math.inf

    def resume(self) -> None:
        """Grant the whole time anew from now on; within a block."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + self.seconds
        self._extended = False
        self._turns = 0
        if self._handle is None:
            self._handle = loop.call_at(self._deadline, self._expire)

    def cancel(self) -> None:
        """Stop the timer: no block follows."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def __enter__(self) -> Self:
        super().__enter__()
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + self._left
        self._turns = 0
        if self._handle is None:  # else it fires before the deadline, which only moves on
            self._handle = loop.call_at(self._deadline, self._expire)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        # Not the running loop: a coroutine that is dropped with its loop ends outside of any.
        self._left = self._deadline - self._task.get_loop().time()
        self._deadline = math.inf
        try:
            super().__exit__(kind, *error)
        finally:
            del self._task  # whose frames may lead here

    def _expire(self) -> None:
        self._handle = None
        if self._deadline == math.inf:
            return  # the next block makes a timer
        loop = asyncio.get_running_loop()
        now = loop.time()
        late = now - self._deadline
        if late > EXPIRY_MARGIN and not self._extended:
            self._extended = True
            self._deadline = now + min(late, self.seconds)
            late = -1.0
        if late < 0:
            self._handle = loop.call_at(self._deadline, self._expire)
        elif self._turns < _TURNS:
            self._turns += 1
            self._handle = loop.call_soon(self._expire)
        else:
            self.interrupt(self.error())
