"""Pauses of other hosts than the platform: their 429s do not pause the requests to it."""

import asyncio
from typing import Final

from itwin_async._aio.timeouts import visible_deadline
from itwin_async._core.jitter import jitter
from itwin_async._core.urls import Origin
from itwin_async._http.pause import pause_error
from itwin_async.errors import RateLimitError
from itwin_async.retries import RetryState

MAX_PAUSE: Final = 86_400.0  # seconds; no rate limit of the platform looks further back
DEFAULT_RETRY_AFTER: Final = 1.0  # seconds, where a 429 does not say


class HostPauses:
    """Until when a 429 of each host pauses the requests to it."""

    def __init__(self) -> None:
        self._until: dict[Origin, float] = {}

    def begin(self, origin: Origin, retry_state: RetryState, error: RateLimitError) -> None:
        """Pause the requests to a host after its 429; raise that where the call may not wait."""
        retry_state.throttles += 1
        wait = error.retry_after or max(
            DEFAULT_RETRY_AFTER, retry_state.retry.backoff(retry_state.throttles)
        )
        until = asyncio.get_running_loop().time() + min(wait, MAX_PAUSE)
        self._until[origin] = max(until, self._until.get(origin, 0.0))
        if not _may_wait(wait, retry_state):
            raise error

    async def wait(self, origin: Origin, retry_state: RetryState, operation: str) -> None:
        """Wait until the pause of a host ends; `RateLimitError` where that is too long."""
        loop = asyncio.get_running_loop()
        while (left := self._until.get(origin, 0.0) - loop.time()) > 0:
            if not _may_wait(left, retry_state):
                error = pause_error(origin.host, left)
                error.operation = operation
                raise error
            retry_state.throttled += left
            # Jitter, so that the requests do not start together.
            await asyncio.sleep(left + jitter(0.0, min(1.0, left * 0.1)))


def _may_wait(seconds: float, retry_state: RetryState) -> bool:
    """Whether a call may wait so long for the end of a pause."""
    retry = retry_state.retry
    return (
        seconds <= visible_deadline() - asyncio.get_running_loop().time()
        and seconds <= retry.max_retry_after
        and retry_state.throttled + seconds <= retry.max_throttled
    )
