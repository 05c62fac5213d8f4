"""Which failures may be tried again, and when: functions from values to values, without a clock."""

import random
from dataclasses import dataclass, field
from typing import Final

from itwin_async.errors import (
    DecodeError,
    ITwinError,
    RateLimitError,
    ResponseError,
    TransportError,
)

# Doing these twice does the same as doing them once (RFC 9110, section 9.2.2).
_REPEATABLE: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_UNSENT: Final = frozenset({"dns", "refused", "unreachable"})
_FINAL: Final = frozenset({"tls", "too large"})


@dataclass(frozen=True, slots=True)
class Retry:
    """How patient a session is; all but ``attempts`` in seconds.

    ``attempts`` counts the first one and is used up by faults: no answer, 408, 425, 5xx. Between
    two attempts lies a random time of up to ``base``, doubled each time, at most ``cap``. Throttles
    (429) use up no attempt: a single wait longer than ``max_retry_after``, or a sum of waits
    longer than ``max_throttled``, raises `RateLimitError` instead.
    """

    attempts: int = 4
    base: float = field(default=0.5, kw_only=True)
    cap: float = field(default=20.0, kw_only=True)
    max_retry_after: float = field(default=120.0, kw_only=True)
    max_throttled: float = field(default=900.0, kw_only=True)

    def __post_init__(self) -> None:
        attempts: object = self.attempts
        if not isinstance(attempts, int) or isinstance(attempts, bool):
            raise TypeError(f"attempts must be an int, not {type(attempts).__name__}")
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {attempts}")
        for name in ("base", "cap", "max_retry_after", "max_throttled"):
            seconds: object = getattr(self, name)
            if not isinstance(seconds, int | float) or isinstance(seconds, bool):
                raise TypeError(f"{name} must be a number of seconds, not {type(seconds).__name__}")
            if not seconds >= 0:
                raise ValueError(f"{name} must be 0 seconds or more, not {seconds}")

    def backoff(self, fault: int) -> float:
        """Seconds before the attempt after the *fault*-th fault: random, so that a crowd parts."""
        return random.uniform(0.5, 1.0) * min(self.cap, self.base * 2.0 ** min(fault - 1, 60))  # noqa: S311 - no secret


@dataclass(slots=True)
class Budget:
    """Retries that a session has left: a storm of failures empties it, successes fill it again."""

    capacity: float = 100.0
    refill: float = 0.1  # of a retry, for each success: one failure in ten can go on for ever
    left: float = 100.0

    def succeeded(self) -> None:
        """Give back a part of a retry."""
        if self.left < self.capacity:
            self.left = min(self.capacity, self.left + self.refill)

    def take(self) -> bool:
        """One retry, if there is one left."""
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


@dataclass(slots=True)
class Attempts:
    """What one call has gone through so far, and so what its next failure leads to."""

    retry: Retry
    method: str
    faults: int = 0
    throttled: float = 0.0
    undecoded: int = 0
    doubted: bool = False

    def progressed(self) -> None:
        """Something new arrived: the faults before it no longer count."""
        self.faults = self.undecoded = 0

    def delay(self, error: ITwinError, budget: Budget) -> float | None:
        """Seconds until the next attempt, or None: this failure is final.

        A throttle is always None: its wait is the limiter's business.
        """
        if isinstance(error, RateLimitError) or not self._repeatable(error):
            return None
        self.faults += 1
        self.doubted = self.doubted or self.in_doubt(error)
        if isinstance(error, DecodeError):
            self.undecoded += 1
            if self.undecoded > 1:
                return None
        wait = self.retry.backoff(self.faults)
        if isinstance(error, ResponseError) and error.retry_after is not None:
            if error.retry_after > self.retry.max_retry_after:
                return None
            wait = max(wait, error.retry_after)
        if self.faults >= self.retry.attempts or not budget.take():
            return None
        return wait

    def _repeatable(self, error: ITwinError) -> bool:
        match error:
            case TransportError(reason=reason):
                if reason in _FINAL:
                    return False
                return reason in _UNSENT or self.method in _REPEATABLE
            case ResponseError(status=status):
                return self.method in _REPEATABLE and (status in {408, 425} or status >= 500)
            case DecodeError():
                return self.method == "GET"
            case _:
                return False

    def in_doubt(self, error: ITwinError) -> bool:
        """Whether a failed write may have been carried out all the same."""
        if self.method in {"GET", "HEAD"}:
            return False
        if self.doubted:  # an earlier attempt may have done it, whatever the last one says
            return True
        if isinstance(error, TransportError):
            return error.sent
        if isinstance(error, ResponseError):
            return error.status == 408 or error.status >= 500
        return isinstance(error, DecodeError)
