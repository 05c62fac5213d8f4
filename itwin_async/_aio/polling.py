"""Polling: look again and again, at growing intervals, until something is done."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

from itwin_async._aio.timeouts import Timeout

T = TypeVar("T")
_MAX_INTERVAL: Final = 10.0  # seconds


async def poll(
    look: Callable[[], Awaitable[T]],
    is_done: Callable[[T], bool],
    *,
    timeout: float,  # noqa: ASYNC109 - its error says what the state was
    what: str,
    state_of: Callable[[T], str],
    interval: float = 1.0,
) -> T:
    """What ``look`` returns once ``is_done``; it may raise to give up.

    Looks at once, then after ``interval`` seconds, which double up to 10.
    Raises `TimeoutError` after ``timeout`` seconds: ``what`` was not done, and in a line
    what its last state was.
    """
    limit = _PollTimeout(timeout, f"{what} in {timeout:g} s")
    try:
        with limit:
            while True:
                found = await look()
                limit.state = state_of(found)
                if is_done(found):
                    return found
                await anyio.sleep(interval)
                interval = min(_MAX_INTERVAL, interval * 2)
    finally:
        limit.cancel()


class _PollTimeout(Timeout):
    """The timeout of polling; its error has the last known state."""

    state = "there was no answer"

    def error(self) -> TimeoutError:
        """The error of a wait beyond the limit."""
        return TimeoutError(f"{self.message}: {self.state}")
