"""Timeouts and interrupts: how a wait ends early, with an error or at a deadline."""

import asyncio
import math
from typing import Final, Self

import anyio

from itwin_async.errors import TransportError

_BUSY_LOOP_DELAY: Final = 0.001  # seconds after its time from which a busy loop has held up a timer
_GRACE_TURNS: Final = 4  # of the loop, in which what a socket has received reaches its reader


def visible_deadline() -> float:
    """The time of the loop's clock at which the caller's anyio scopes end; infinity without any.

    A scope that is cancelled already has no deadline to keep: the next await is cancelled, and an
    error raised before it would hide that.
    """
    deadline = anyio.current_effective_deadline()
    return math.inf if deadline == -math.inf else deadline


class InterruptScope:
    """A block of a task that another task may end with an error.

    `interrupt` cancels the task, and the scope turns this cancellation into the error. A
    cancellation that comes from elsewhere stays what it is. `asyncio.timeout` works like that.
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
        """End the block with this error, unless the task itself calls this, or it has ended."""
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
            cancelled.__traceback__ = None  # its frames show requests
            raise self._error from None


class Timeout(InterruptScope):
    """Limits the time spent in its ``with`` blocks, all together, to ``seconds``.

    `restart` grants the whole time anew. One timer serves all blocks: a block that begins moves
    the deadline on, and a timer that fires before it is set again. A timer that fires late was held
    up by a blocked loop, and that time was no waiting: the wait gets as much longer, once, and in
    any case a few turns of the loop, in which what has arrived is read.
    """

    __slots__ = ("_deadline", "_extended", "_handle", "_left", "_turns", "message", "seconds")

    def __init__(self, seconds: float, message: str = "") -> None:
        self.seconds: Final = seconds
        self.message: str = message
        self._left = seconds
        self._deadline = math.inf  # outside of a block
        self._extended = False
        self._turns = 0
        self._handle: asyncio.Handle | None = None

    def error(self) -> Exception:
        """The error of a wait beyond the limit."""
        return TransportError(self.message, "timeout")

    @property
    def active(self) -> bool:
        """Whether a task is in a block."""
        return self._deadline != math.inf

    def restart(self) -> None:
        """Grant the whole time anew; not within a block."""
        self._left = self.seconds
        self._extended = False

    def suspend(self) -> None:
        """Count no time from now on; within a block."""
        self._deadline = math.inf

    def resume(self) -> None:
        """Grant the whole time anew from now on; within a block."""
        loop = self._task.get_loop()
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
        loop = self._task.get_loop()
        self._deadline = loop.time() + self._left
        self._turns = 0
        if self._handle is None:
            self._handle = loop.call_at(self._deadline, self._expire)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        # The task's loop and not the running one: a coroutine that is dropped with its loop ends
        # outside of any.
        self._left = self._deadline - self._task.get_loop().time()
        self._deadline = math.inf
        try:
            if kind is not None or self._error is not None:
                super().__exit__(kind, *error)
        finally:
            del self._task  # whose frames may refer to this

    def _expire(self) -> None:
        self._handle = None
        if not self.active:
            return  # the next block sets a timer
        loop = self._task.get_loop()
        now = loop.time()
        late = now - self._deadline
        if late > _BUSY_LOOP_DELAY and not self._extended:
            self._extended = True
            self._deadline = now + min(late, self.seconds)
            late = -1.0
        if late < 0:
            self._handle = loop.call_at(self._deadline, self._expire)
        elif self._turns < _GRACE_TURNS:
            self._turns += 1
            self._handle = loop.call_soon(self._expire)
        else:
            self.interrupt(self.error())
