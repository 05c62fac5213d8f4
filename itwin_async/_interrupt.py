"""How waits end early: with an error of ours, as `asyncio.timeout` does it, or at a deadline."""

import asyncio
import math
from typing import Self

import anyio


def visible_deadline() -> float:
    """The time of the loop's clock at which the caller's anyio scopes end; infinity without any.

    A scope that is cancelled already has no deadline to keep: the next await is cancelled, and an
    error raised before it would hide that.
    """
    deadline = anyio.current_effective_deadline()
    return math.inf if deadline == -math.inf else deadline


class Interruptible:
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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if (
            self._error is not None
            and self._task.uncancel() <= self._cancelling
            and kind is not None
            and issubclass(kind, asyncio.CancelledError)
        ):
            raise self._error from None
