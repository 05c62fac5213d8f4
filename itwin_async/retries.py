"""Retries: which failed requests are sent again, and when. No clock, no I/O."""

import math
from dataclasses import dataclass, field
from typing import Final

import msgspec

from itwin_async._core.jitter import jitter
from itwin_async._core.validation import check_count, check_seconds
from itwin_async.errors import (
    DecodeError,
    ITwinError,
    RateLimitError,
    ResponseError,
    TransportError,
)

# Idempotent methods (RFC 9110, section 9.2.2).
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_UNSENT: Final = frozenset({"dns", "refused", "unreachable"})
_FINAL: Final = frozenset({"tls", "too large", "proxy"})
_ORIGIN_FAULTS: Final = _UNSENT | {"reset"}  # which no single resource causes


@dataclass(frozen=True, slots=True)
class Retry:
    """When a session retries failed requests; all but ``attempts`` in seconds.

    ``attempts`` includes the first one; faults use it up: no response, 408, 425, 5xx. Between two
    attempts lies a backoff of ``base``, doubled each time up to ``cap``, of which jitter takes up
    to half. Throttles (429) use up no attempt: a single wait longer than ``max_retry_after``, or a
    sum of waits longer than ``max_throttled``, raises `RateLimitError`. The count starts again when
    a large page or a file has made progress.

    Example::

        retry = Retry(6, base=1.0, max_outage=600.0)
        async with ITwinSession.from_env(retry=retry) as itwin:
            print(await itwin.itwins.get_primary_account())

    When an origin gives no response, or 5xx, to two different targets with no success between, it
    is an outage: all calls to it wait, one of them at a time probes, and each failed probe is an
    attempt of every waiting call. ``max_outage`` replaces ``attempts`` meanwhile: the seconds from
    a call's own first fault for which it goes on trying; None counts attempts. It also holds for a
    single call that cannot connect or whose connection is reset. A ``Retry-After`` beyond
    ``max_retry_after`` ends a call in any case. Writes that may have been carried out are never
    sent again.
    """

    attempts: int = 4
    base: float = field(default=0.5, kw_only=True)
    cap: float = field(default=20.0, kw_only=True)
    max_retry_after: float = field(default=120.0, kw_only=True)
    max_throttled: float = field(default=900.0, kw_only=True)
    max_outage: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_count("attempts", self.attempts)
        for name in ("base", "cap", "max_retry_after", "max_throttled"):
            check_seconds(name, getattr(self, name), finite=False, zero=True)
        check_seconds("max_outage", self.max_outage, finite=False, zero=True, optional=True)

    def backoff(self, fault: int) -> float:
        """Seconds to wait after the *fault*-th fault: exponential, with jitter."""
        return jitter(0.5, 1.0) * min(self.cap, self.base * 2.0 ** min(fault - 1, 60))


class RetryState(msgspec.Struct):
    """The faults and waits of one call so far, which decide whether it is sent again."""

    retry: Retry
    method: str
    faults: int = 0
    throttled: float = 0.0
    throttles: int = 0
    undecoded: int = 0
    earlier_outcome_unknown: bool = False
    request_id: str | None = None  # of the last one that failed
    _outage_faults: int = 0  # which ``max_outage`` bounds instead of ``attempts``
    _failing_since: float | None = None

    @property
    def repeatable(self) -> bool:
        """Whether its method is idempotent."""
        return self.method in _IDEMPOTENT

    @property
    def outage_end(self) -> float:
        """When ``max_outage`` ends for this call; infinity if it has not begun."""
        if self._failing_since is None or self.retry.max_outage is None:
            return math.inf
        return self._failing_since + self.retry.max_outage

    def progressed(self) -> None:
        """Start counting again, because something new arrived."""
        self.faults = self.undecoded = self._outage_faults = self.throttles = 0
        self.throttled = 0.0
        self._failing_since = None

    def fault(self, error: ITwinError, now: float, *, outage: bool) -> bool:
        """Count a fault, of this call or of a probe; whether another attempt is allowed."""
        self.faults += 1
        if self._failing_since is None:
            self._failing_since = now
        wait = (error.retry_after if isinstance(error, ResponseError) else None) or 0.0
        if wait > self.retry.max_retry_after:
            return False
        if self.retry.max_outage is not None and outage:
            self._outage_faults += 1
            return now + wait < self.outage_end
        return self.faults - self._outage_faults < self.retry.attempts

    def delay(self, error: ITwinError, now: float, *, outage: bool = False) -> float | None:
        """Seconds until the next attempt, or None: this failure is final.

        ``now`` is any monotonic time, ``outage`` whether the origin is out of service. None for a
        throttle: the limiter waits.
        """
        if isinstance(error, RateLimitError) or not self._repeatable(error):
            return None
        self.earlier_outcome_unknown = self.earlier_outcome_unknown or self.outcome_unknown(error)
        if isinstance(error, TransportError) and error.reason in _ORIGIN_FAULTS:
            outage = True
        if not self.fault(error, now, outage=outage):
            return None
        if isinstance(error, DecodeError):
            self.undecoded += 1
            if self.undecoded > 1:
                return None
        wait = self.retry.backoff(self.faults)
        if outage:  # the last attempt is that at the end of its time
            wait = min(wait, self.outage_end - now)
        asked = error.retry_after if isinstance(error, ResponseError) else None
        return wait if asked is None else max(wait, asked)

    def _repeatable(self, error: ITwinError) -> bool:
        match error:
            case TransportError(reason=reason):
                if reason in _FINAL:
                    return False
                return reason in _UNSENT or self.method in _IDEMPOTENT
            case ResponseError(status=status):
                return self.method in _IDEMPOTENT and (status in {408, 425} or status >= 500)
            case DecodeError():
                return self.method == "GET"
            case _:
                return False

    def outcome_unknown(self, error: ITwinError) -> bool:
        """Whether a failed write may have been carried out nevertheless."""
        if self.method in {"GET", "HEAD"}:
            return False
        if (
            self.earlier_outcome_unknown
        ):  # an earlier attempt may have done it, whatever the last one says
            return True
        if isinstance(error, TransportError):
            return error.sent
        if isinstance(error, ResponseError):
            return error.status == 408 or error.status >= 500
        return isinstance(error, DecodeError)
