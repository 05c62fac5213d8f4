"""Circuit breaker of an origin: during an outage calls wait together, and one of them probes."""

import asyncio
import math
from dataclasses import dataclass
from typing import Final

from itwin_async._aio.timeouts import visible_deadline
from itwin_async._http.instrumentation import Instrumentation
from itwin_async.errors import ITwinError, ResponseError, TransportError, own_copy
from itwin_async.retries import Retry, RetryState

_RAMP: Final = 1.0  # seconds over which the calls that waited start again
_TICK: Final = 0.01  # seconds between two starts at least; more than one start at once beyond that
_APART: Final = 0.5  # seconds between two probes, however many calls end
_LONGEST: Final = 3_600.0  # seconds of a `Retry-After`, after which a probe is sent anyway
_NO_ANSWER: Final = frozenset({"dns", "refused", "unreachable", "reset", "timeout", "malformed"})


def is_fault(failure: ITwinError) -> bool:
    """Whether a request that failed says that its origin may be out of service."""
    if isinstance(failure, TransportError):
        return failure.reason in _NO_ANSWER
    return isinstance(failure, ResponseError) and failure.status >= 500


@dataclass(slots=True)
class OutageState:
    """Whether an origin is out of service: from faults on two targets until its next answer."""

    since: float | None = None  # when an outage began
    target: str | None = None  # of the first fault after the last answer

    def fault(self, target: str, now: float) -> bool:
        """A request to ``target`` got no answer, or 5xx; whether an outage begins with that."""
        if self.target is None:
            self.target = target
        elif self.since is None and target != self.target:
            self.since = now
            return True
        return False

    def answer(self) -> float | None:
        """An answer below 500 came; when the outage began that it ends, if there was one."""
        began, self.since, self.target = self.since, None, None
        return began


class Probe:
    """The right to send a request during an outage; one call has it at a time."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: "CircuitBreaker") -> None:
        self._breaker = breaker

    def release(self) -> None:
        """Give it up; if it brought no result, another call probes at once."""
        self._breaker.release(self)


@dataclass(slots=True, eq=False)
class _Waiter:
    attempts: RetryState
    deadline: float  # of an anyio scope around the call
    future: "asyncio.Future[Probe | None]"
    spent: bool = False  # it may not wait for another probe


class CircuitBreaker:
    """The outages of one origin. Holds no slot, and keeps nobody while the origin answers."""

    def __init__(self, origin: str, retry: Retry, instrumentation: Instrumentation) -> None:
        self._origin: Final = origin
        self._retry: Final = retry
        self._instrumentation: Final = instrumentation
        self._state: Final = OutageState()
        self._failed_probes = 0
        self._failure = ITwinError()  # the last one, without a traceback
        self._waiting: dict[_Waiter, None] = {}  # in the order of their turns
        self._probe: Probe | None = None
        self._due = 0.0  # when the next probe is sent
        self._soonest = 0.0  # how far a call whose time is up may bring that forward
        self._asked = 0.0  # when a `Retry-After` of the outage is over
        self._restart_at = self._interval = 0.0
        self._batch = 1  # calls that start again at each interval
        self._timer: asyncio.TimerHandle | None = None

    @property
    def open(self) -> bool:
        """Whether there is an outage."""
        return self._state.since is not None

    @property
    def clear(self) -> bool:
        """Whether there is no outage, and no call that is still to start again after one."""
        return not self.open and not self._waiting

    def until_probe(self) -> float:
        """Seconds until the next probe of an outage."""
        return max(0.0, self._due - asyncio.get_running_loop().time())

    async def enter(self, attempts: RetryState, operation: str) -> Probe | None:
        """Wait while there is an outage; a `Probe` if this call is to try whether it is over.

        Raises an error like that of the last probe as soon as ``attempts`` or an anyio deadline
        around this call leave no time for another one.
        """
        if not self.open:
            return None
        loop = asyncio.get_running_loop()
        waiter = _Waiter(attempts, visible_deadline(), loop.create_future())
        if self._probe is None:
            now = loop.time()
            self._due = min(self._due, max(self._soonest, attempts.outage_end))
            if not self._leaves_time(waiter, now):
                raise self._final(attempts, operation)
            if self._due <= now and not self._waiting:
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
        if waiter.spent:
            raise self._final(attempts, operation)
        return probe

    def failed(
        self, failure: ITwinError, target: str, attempts: RetryState, probe: Probe | None
    ) -> None:
        """A request failed before an answer below 500 came; not counted in ``attempts`` yet."""
        now = asyncio.get_running_loop().time()
        fault = is_fault(failure)
        begins = fault and self._state.fault(target, now)
        probed = probe is not None and probe is self._probe
        if begins:
            self._failed_probes = 0
            self._soonest = self._asked = now
            self._instrumentation.outage_started(self._origin, failure)
        elif probed:
            self._probe = None
            self._failed_probes += 1
            self._instrumentation.probe_failed()
            for waiter in list(self._waiting):
                if not waiter.attempts.fault(failure, now, outage=True):
                    self._reject(waiter)
        elif not (fault and self.open):
            return
        wait = (failure.retry_after if isinstance(failure, ResponseError) else None) or 0.0
        self._asked = max(self._asked, now + min(wait, _LONGEST))
        self._soonest = max(self._soonest, self._asked)
        self._failure = own_copy(failure)
        if begins or probed:
            # As long as the call that was tried least would wait by itself.
            faults = [waiter.attempts.faults for waiter in self._waiting]
            delay = self._retry.backoff(max(1, min([attempts.faults + 1, *faults])))
            self._soonest = max(self._soonest, now + min(delay, _APART))
            ends = min((waiter.attempts.outage_end for waiter in self._waiting), default=math.inf)
            self._due = max(self._soonest, min(now + delay, ends))
        self._due = max(self._due, self._asked)
        if self._probe is None:
            for waiter in list(self._waiting):
                if not self._leaves_time(waiter, now):
                    self._reject(waiter)
        self._schedule()

    def answered(self) -> None:
        """An answer below 500 came: an outage is over, and the calls start one after another."""
        if self._state.target is None:
            return
        began = self._state.answer()
        if began is None:
            return
        self._probe = None
        now = asyncio.get_running_loop().time()
        self._instrumentation.outage_ended(self._origin, now - began, self._failed_probes)
        count = max(1, len(self._waiting))
        self._interval = max(_TICK, _RAMP / count)
        self._batch = math.ceil(count * self._interval / _RAMP)
        self._restart_at = now
        self._schedule()

    def release(self, probe: Probe) -> None:
        """A call gives up its probe."""
        if probe is self._probe:
            self._probe = None
            self._due = max(asyncio.get_running_loop().time(), self._asked)
            self._schedule()

    def _new_probe(self) -> Probe:
        self._probe = Probe(self)
        return self._probe

    def _leaves_time(self, waiter: _Waiter, now: float) -> bool:
        """Whether a call may wait for the next probe."""
        attempts = waiter.attempts
        asked = self._asked - now <= attempts.retry.max_retry_after
        return self._due <= waiter.deadline and asked and self._asked <= attempts.outage_end

    def _reject(self, waiter: _Waiter) -> None:
        del self._waiting[waiter]
        waiter.spent = True
        if not waiter.future.done():
            waiter.future.set_result(None)

    def _final(self, attempts: RetryState, operation: str) -> ITwinError:
        """The outage as the error of one of its calls."""
        error = own_copy(self._failure)
        if self._state.since is not None:
            seconds = asyncio.get_running_loop().time() - self._state.since
            error.message = f"{error.message} (an outage for {seconds:.1f} s)"
            error.args = (error.message,)
        if isinstance(error, ResponseError):
            error.path = None  # it is that of another call
        error.operation, error.request_id = operation, attempts.request_id
        error.outcome_unknown = attempts.doubted
        return error

    def _schedule(self) -> None:
        """Set the one timer for what comes next; none while nobody waits or a probe is sent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting and not (self.open and self._probe is not None):
            when = self._due if self.open else self._restart_at
            self._timer = asyncio.get_running_loop().call_at(when, self._proceed)

    def _proceed(self) -> None:
        """Let one call probe; after an outage, let the next ones start."""
        self._timer = None
        if self.open:
            # What may be sent twice goes first: a probe is likely to fail.
            repeatable = (waiter for waiter in self._waiting if waiter.attempts.repeatable)
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
