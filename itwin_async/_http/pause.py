"""Pause that a 429 asks for, and the restart of requests after it, one after another."""

import math
from typing import Final

import msgspec

from itwin_async._core.jitter import jitter
from itwin_async.errors import RateLimitError

_RAMP: Final = 1.0  # seconds over which `concurrency` requests are spread after a pause


class WaitLimits(msgspec.Struct, eq=False):
    """How long a request may wait for pauses to end."""

    max_wait: float
    max_total_wait: float  # from when it began to wait
    deadline: float  # of an anyio scope around it
    paused_before: float  # seconds of pauses until it began


class Pause:
    """The latest pause of a limiter. Times are those of its event loop."""

    __slots__ = ("jitter", "next_send", "no_prefetch_until", "ramp_end", "total", "until")

    def __init__(self) -> None:
        self.until = -math.inf
        self.jitter = 0.0  # seconds of the pause that the platform did not ask for
        self.total = 0.0  # seconds of all pauses, up to `until`
        self.next_send = -math.inf  # while requests restart one after another
        self.ramp_end = -math.inf  # when they have restarted
        self.no_prefetch_until = -math.inf

    def left(self, now: float) -> float:
        """Seconds until its end; 0 without one."""
        return max(0.0, self.until - now)

    def extend(self, now: float, seconds: float) -> bool:
        """Let it last for so long from now on; False if it lasts longer already."""
        # Jitter, so that clients on other machines do not restart in lockstep. Never shorter.
        extra = jitter(0.0, min(1.0, seconds * 0.1))
        until = now + seconds + extra
        if until <= self.until:
            return False
        self.total += until - max(now, self.until)
        self.until = self.next_send = until
        self.ramp_end = until + _RAMP
        self.jitter = extra
        self.no_prefetch_until = until + max(1.0, seconds)
        return True

    def sendable_at(self, now: float) -> float:
        """When a request may be sent, as far as the pause and the restart are concerned."""
        return max(self.until, self.next_send) if now < self.ramp_end else self.until

    def on_send(self, now: float, concurrency: int) -> None:
        """Let the next request wait its turn in the restart."""
        self.next_send = now + _RAMP / concurrency

    def rejection(self, limits: WaitLimits, now: float) -> RateLimitError | None:
        """The error of a request that may not wait so long; None where it may."""
        left = self.until - now
        total = self.total - limits.paused_before
        tolerance = self.jitter + 1e-6  # seconds that count against no limit
        if (
            left - tolerance <= limits.max_wait
            and total - tolerance <= limits.max_total_wait
            and self.until - tolerance <= limits.deadline
        ):
            return None
        return pause_error("the platform", left)


def pause_error(who: str, left: float) -> RateLimitError:
    """The error of a request that may not wait for the seconds that are left of a pause."""
    error = RateLimitError(
        f"{who} asked for a pause of which {left:.1f} s are left, longer than "
        "max_retry_after, max_throttled or the deadline around this request allow"
    )
    error.status = 429
    error.retry_after = left
    return error
