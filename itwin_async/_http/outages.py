"""Circuit breaker of an origin: during an outage calls wait together, and one of them probes.

What counts as an outage, and why: docs/adr/0007.
"""

import asyncio
import math
from typing import Final

import msgspec

from itwin_async._aio.timeouts import visible_deadline
from itwin_async._http.instrumentation import Instrumentation
from itwin_async.errors import ITwinError, ResponseError, TransportError, own_copy
from itwin_async.retries import Retry, RetryState

_RESTART_SECONDS: Final = 1.0  # over which the calls that waited start again
_MIN_INTERVAL: Final = 0.01  # seconds between two starts; of many calls, several start at once
_MIN_PROBE_INTERVAL: Final = 0.5  # seconds, however many calls end
_MAX_RETRY_AFTER: Final = 3_600.0  # seconds, after which a probe is sent in any case
_NO_RESPONSE: Final = frozenset({"dns", "refused", "unreachable", "reset", "timeout", "malformed"})


def is_fault(failure: ITwinError) -> bool:
    """Whether a failed request is a sign that its origin may be out of service."""
    if isinstance(failure, TransportError):
        return failure.reason in _NO_RESPONSE
    return isinstance(failure, ResponseError) and failure.status >= 500


class OutageState(msgspec.Struct):
    """Whether an origin is out of service: from faults on two targets until its next response."""

    since: float | None = None  # when the outage began
    target: str | None = None  # of the first fault after the last response

    def fault(self, target: str, now: float) -> bool:
        """Record that ``target`` gave no response, or 5xx; whether an outage begins with that."""
        if self.target is None:
            self.target = target
        elif self.since is None and target != self.target:
            self.since = now
            return True
        return False

    def response(self) -> float | None:
        """Record a response below 500; when the outage began that it ends, None without one."""
        began, self.since, self.target = self.since, None, None
        return began


class Probe:
    """The right to send a request during an outage. One call has it at a time."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: "CircuitBreaker") -> None:
        self._breaker = breaker

    def release(self) -> None:
        """Give it up. If it had no result, another call probes at once."""
        self._breaker.release(self)


class _Waiter(msgspec.Struct, eq=False):
    retry_state: RetryState
    deadline: float  # of an anyio scope around the call
    future: "asyncio.Future[Probe | None]"
    rejected: bool = False  # it may not wait for another probe


class CircuitBreaker:
    """Detects the outages of one origin, and makes calls wait during them, without a slot."""

    def __init__(self, origin: str, retry: Retry, instrumentation: Instrumentation) -> None:
        self._origin: Final = origin
        self._retry: Final = retry
        self._instrumentation: Final = instrumentation
        self._state: Final = OutageState()
        self.open: bool = False  # whether there is an outage
        self._failed_probes = 0
        self._failure = ITwinError()  # the last one, without a traceback
        self._waiting: dict[_Waiter, None] = {}  # in the order of their turns
        self._probe: Probe | None = None
        self._probe_at = 0.0  # when the next probe is sent
        self._earliest_probe = 0.0  # how far a call whose time is up may bring that forward
        self._retry_after_ends = 0.0  # a `Retry-After` of the outage
        self._restart_at = self._interval = 0.0
        self._batch = 1  # calls that start again at each interval
        self._timer: asyncio.TimerHandle | None = None

    @property
    def clear(self) -> bool:
        """Whether there is no outage, and no call that waits to start again after one."""
        return not self.open and not self._waiting

    def until_probe(self) -> float:
        """Seconds until the next probe of an outage."""
        return max(0.0, self._probe_at - asyncio.get_running_loop().time())

    async def enter(self, retry_state: RetryState, operation: str) -> Probe | None:
        """Wait for the end of the outage, or for a `Probe` with which this call tries it out.

        Raises a copy of the last failure as soon as ``retry_state`` or an anyio deadline around
        this call leave no time for another probe.
        """
        if not self.open:
            return None
        loop = asyncio.get_running_loop()
        waiter = _Waiter(retry_state, visible_deadline(), loop.create_future())
        if self._probe is None:
            now = loop.time()
            self._probe_at = min(self._probe_at, max(self._earliest_probe, retry_state.outage_end))
            if not self._leaves_time(waiter, now):
                raise self._final(retry_state, operation)
            if self._probe_at <= now and not self._waiting:
                return self._new_probe()
        self._waiting[waiter] = None
        self._schedule()
        try:
            probe = await waiter.future
        except asyncio.CancelledError:
            self._waiting.pop(waiter, None)
            if waiter.future.done() and not waiter.future.cancelled():
                granted = waiter.future.result()
                if granted is not None:
                    self.release(granted)
            self._schedule()
            raise
        if waiter.rejected:
            raise self._final(retry_state, operation)
        return probe

    def on_failure(
        self, failure: ITwinError, target: str, retry_state: RetryState, probe: Probe | None
    ) -> None:
        """Record a request without a response below 500, not counted in ``retry_state`` yet."""
        now = asyncio.get_running_loop().time()
        fault = is_fault(failure)
        begins = fault and self._state.fault(target, now)
        probed = probe is not None and probe is self._probe
        if begins:
            self.open = True
            self._failed_probes = 0
            self._earliest_probe = self._retry_after_ends = now
            self._instrumentation.outage_started(self._origin, failure)
        elif probed:
            self._probe = None
            self._failed_probes += 1
            self._instrumentation.probe_failed()
            for waiter in list(self._waiting):
                if not waiter.retry_state.fault(failure, now, outage=True):
                    self._reject(waiter)
        elif not (fault and self.open):
            return
        wait = (failure.retry_after if isinstance(failure, ResponseError) else None) or 0.0
        self._retry_after_ends = max(self._retry_after_ends, now + min(wait, _MAX_RETRY_AFTER))
        self._earliest_probe = max(self._earliest_probe, self._retry_after_ends)
        self._failure = own_copy(failure)
        if begins or probed:
            # As long as the call that was tried least would wait by itself.
            faults = [waiter.retry_state.faults for waiter in self._waiting]
            delay = self._retry.backoff(max(1, min([retry_state.faults + 1, *faults])))
            self._earliest_probe = max(self._earliest_probe, now + min(delay, _MIN_PROBE_INTERVAL))
            ends = min(
                (waiter.retry_state.outage_end for waiter in self._waiting), default=math.inf
            )
            self._probe_at = max(self._earliest_probe, min(now + delay, ends))
        self._probe_at = max(self._probe_at, self._retry_after_ends)
        if self._probe is None:
            for waiter in list(self._waiting):
                if not self._leaves_time(waiter, now):
                    self._reject(waiter)
        self._schedule()

    def on_response(self, status: int) -> None:
        """Record a response. One below 500 ends an outage; its calls start one after another."""
        if status >= 500 or status == 407 or self._state.target is None:  # 407 comes from a proxy
            return
        began = self._state.response()
        if began is None:
            return
        self.open = False
        self._probe = None
        now = asyncio.get_running_loop().time()
        self._instrumentation.outage_ended(self._origin, now - began, self._failed_probes)
        count = max(1, len(self._waiting))
        self._interval = max(_MIN_INTERVAL, _RESTART_SECONDS / count)
        self._batch = math.ceil(count * self._interval / _RESTART_SECONDS)
        self._restart_at = now
        self._schedule()

    def release(self, probe: Probe) -> None:
        """Take back a probe; see `Probe.release`."""
        if probe is self._probe:
            self._probe = None
            self._probe_at = max(asyncio.get_running_loop().time(), self._retry_after_ends)
            self._schedule()

    def _new_probe(self) -> Probe:
        self._probe = Probe(self)
        return self._probe

    def _leaves_time(self, waiter: _Waiter, now: float) -> bool:
        """Whether a call may wait for the next probe."""
        retry_state = waiter.retry_state
        asked = self._retry_after_ends - now <= retry_state.retry.max_retry_after
        return (
            self._probe_at <= waiter.deadline
            and asked
            and self._retry_after_ends <= retry_state.outage_end
        )

    def _reject(self, waiter: _Waiter) -> None:
        del self._waiting[waiter]
        waiter.rejected = True
        if not waiter.future.done():
            waiter.future.set_result(None)

    def _final(self, retry_state: RetryState, operation: str) -> ITwinError:
        """The error of a call that waits no longer."""
        error = own_copy(self._failure)
        if self._state.since is not None:
            seconds = asyncio.get_running_loop().time() - self._state.since
            error.message = f"{error.message} (an outage for {seconds:.1f} s)"
        if isinstance(error, ResponseError):
            error.path = None  # which is another call's
        error.operation, error.request_id = operation, retry_state.request_id
        error.outcome_unknown = retry_state.earlier_outcome_unknown
        return error

    def _schedule(self) -> None:
        """Set the timer for the next probe or start; none while nobody waits or a probe is sent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting and not (self.open and self._probe is not None):
            when = self._probe_at if self.open else self._restart_at
            self._timer = asyncio.get_running_loop().call_at(when, self._proceed)

    def _proceed(self) -> None:
        """Let one call probe or, after an outage, the next calls start."""
        self._timer = None
        if self.open:
            # Requests that may be repeated go first: a probe is likely to fail.
            repeatable = (waiter for waiter in self._waiting if waiter.retry_state.repeatable)
            self._grant(next(repeatable, next(iter(self._waiting), None)), self._new_probe())
            return
        for waiter in list(self._waiting)[: self._batch]:
            self._grant(waiter, None)
        self._restart_at = asyncio.get_running_loop().time() + self._interval
        self._schedule()

    def _grant(self, waiter: _Waiter | None, probe: Probe | None) -> None:
        if waiter is None or waiter.future.done():  # cancelled just now
            if waiter is not None:
                del self._waiting[waiter]
            if probe is not None:
                self.release(probe)
            return
        del self._waiting[waiter]
        waiter.future.set_result(probe)


class Outages:
    """The circuit breakers of a session, one for each origin."""

    def __init__(self, retry: Retry, instrumentation: Instrumentation) -> None:
        self._retry = retry
        self._instrumentation = instrumentation
        self._breakers: dict[str, CircuitBreaker] = {}

    def of(self, origin: str) -> CircuitBreaker:
        """The circuit breaker of an origin."""
        breaker = self._breakers.get(origin)
        if breaker is None:
            breaker = self._breakers[origin] = CircuitBreaker(
                origin, self._retry, self._instrumentation
            )
        return breaker
