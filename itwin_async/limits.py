"""When a request may be sent: one queue that grants slot, pace and door together."""

import asyncio
import contextlib
import math
from collections import deque
from dataclasses import dataclass
from typing import Final, NoReturn

from itwin_async._aio.timeouts import visible_deadline
from itwin_async._core.jitter import jitter
from itwin_async.errors import RateLimitError

_RAMP: Final = 1.0  # seconds over which `concurrency` requests are spread after the door opens


class _Window:
    """Sends within a sliding window, as a server may count them.

    The server counts a request somewhere between its sending and its answer. So a request in
    flight counts as sent now, and one that was answered as sent at its answer: then no window of
    the server's holds more than the limit, whatever the network does.
    """

    __slots__ = ("limit", "span", "times")

    def __init__(self, span: float, limit: int) -> None:
        self.span = span
        self.limit = limit
        self.times: deque[float] = deque()

    def room(self, now: float, flying: int) -> int:
        times = self.times
        while times and times[0] + self.span <= now:
            times.popleft()
        return self.limit - len(times) - flying

    def opens(self, now: float, flying: int) -> float:
        """When there is room for one more: now or earlier if there is, infinite if unknown."""
        missing = -self.room(now, flying)
        if missing < 0:
            return now
        return self.times[missing] + self.span if missing < len(self.times) else math.inf


class Slot:
    """The right to have one request under way. Given back once, from wherever it ends."""

    __slots__ = ("_held", "_in_flight", "_limiter")

    def __init__(self, limiter: "Limiter", *, flying: bool) -> None:
        self._limiter = limiter
        self._in_flight = flying
        self._held = True

    def answered(self) -> None:
        """The request reached the server: from now on it ages out of the windows."""
        if self._in_flight:
            self._in_flight = False
            self._limiter.on_response(sent=True)

    def release(self, *, sent: bool = True) -> None:
        """Give the slot back; ``sent=False`` if the request never left."""
        if self._in_flight:
            self._in_flight = False
            self._limiter.on_response(sent=sent)
        if self._held:
            self._held = False
            self._limiter.release_slot()


@dataclass(slots=True, eq=False)
class _Waiter:
    ticket: int
    future: "asyncio.Future[Slot]"
    patience: float
    budget: float
    closed_before: float
    deadline: float  # of an anyio scope around the request


class Limiter:
    """One OAuth client's share of the platform; the sessions of one event loop may share it.

    ``concurrency`` bounds the requests under way: from their sending until their body is in, or
    until a large body is paused for its consumer. No 60 (3,600) seconds hold more sends than
    ``per_minute`` (``per_hour``), retries included; None is no bound of our own. A 429 closes the
    door for all until its ``Retry-After`` is over; then requests start again one after another.
    Waiting is first come, first served.

    Raises `TypeError` or `ValueError` for a bound that is not a whole number of at least 1, and
    `RuntimeError` when a second event loop uses it.
    Platform page: https://developer.bentley.com/apis/overview/rate-limits/
    """

    def __init__(
        self, concurrency: int = 16, *, per_minute: int | None = None, per_hour: int | None = None
    ) -> None:
        self.concurrency: Final = concurrency
        self.per_minute: Final = per_minute
        self.per_hour: Final = per_hour
        for name, value in (("per_minute", per_minute), ("per_hour", per_hour)):
            if value is not None:
                _check(name, value)
        _check("concurrency", concurrency)
        self._windows = [
            _Window(span, limit)
            for span, limit in ((60.0, per_minute), (3_600.0, per_hour))
            if limit is not None
        ]
        self._free = concurrency
        self._in_flight = 0
        self._paused_until = -math.inf  # when it opens
        self._extra = 0.0  # of its time: not asked for by the platform
        self._closed = 0.0  # seconds it has been or will be closed, up to `_paused_until`
        self._next_send = -math.inf  # while the crowd parts
        self._no_prefetch_until = -math.inf  # until then nothing is sent on a guess
        self._senders: deque[_Waiter] = deque()
        self._readers: deque[_Waiter] = deque()
        self._ticket = 0
        self._cancelled_count = 0  # waiters cancelled since the last clearing
        self._pumping = self._pump_again = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return (
            f"Limiter({self.concurrency}, per_minute={self.per_minute}, per_hour={self.per_hour})"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Limiter does not pickle, for it belongs to one event loop: make one in each process"
        )

    @property
    def in_use(self) -> int:
        """Slots that are taken now."""
        return self.concurrency - self._free

    @property
    def waiting(self) -> int:
        """Requests that wait now for a slot, the pace or the door."""
        return sum(
            not waiter.future.done() for queue in (self._senders, self._readers) for waiter in queue
        )

    def paused_for(self) -> float:
        """Seconds until the door opens; 0 when it is open."""
        return 0.0 if self._loop is None else max(0.0, self._paused_until - self._loop.time())

    def total_paused(self) -> float:
        """Seconds for which the door has been closed in all: what a wait cost is a difference."""
        return self._closed - self.paused_for()

    async def acquire(self, patience: float = math.inf, budget: float = math.inf) -> Slot:
        """A slot to send one request, when pace and door allow it as well.

        Raises `RateLimitError` at once when the door stays closed for longer than ``patience``
        seconds, than what is left of a visible anyio deadline, or when this wait would spend more
        than ``budget`` seconds at it.
        """
        slot = self.acquire_now()
        if slot is not None:
            return slot
        now = self._bind().time()
        deadline = visible_deadline()
        waiter = self._waiter(patience, budget, deadline)
        if self._paused_until > now:
            self._reject(waiter, now)
        self._senders.append(waiter)
        return await self._wait(waiter)

    def acquire_now(self) -> Slot | None:
        """A slot to send one request, if nobody has to wait for it."""
        if not self._free or self._senders or self._readers:
            return None
        now = self._bind().time()
        return self._grant_send(now) if self._opens(now) <= now else None

    async def acquire_read(self) -> Slot:
        """A slot to go on reading a body that was paused: neither pace nor door concern it."""
        self._bind()
        if self._free and not self._senders and not self._readers:
            return self._grant_read()
        waiter = self._waiter()
        self._readers.append(waiter)
        return await self._wait(waiter)

    def acquire_idle(self) -> Slot | None:
        """A slot that nobody else wants now, or None: for requests nobody has asked for yet."""
        now = self._bind().time()
        if (
            self._free < 2  # the last slot is for who asks
            or self._senders
            or self._readers
            or now < self._no_prefetch_until
            or self._opens(now) > now
            or any(
                window.room(now, self._in_flight) <= self.concurrency for window in self._windows
            )
        ):
            return None
        return self._grant_send(now)

    def pause(self, seconds: float) -> bool:
        """Close the door for so long, unless it is closed for longer; whether it was open.

        Whoever would wait longer than it is ready to is told now.
        """
        now = self._bind().time()
        # A little longer, never shorter: clients on other machines wait for the same moment.
        extra = jitter(0.0, min(1.0, seconds * 0.1))
        until = now + seconds + extra
        was_open = self._paused_until <= now
        if until > self._paused_until:
            self._closed += until - (now if was_open else self._paused_until)
            self._paused_until = self._next_send = until
            self._extra = extra
            self._no_prefetch_until = until + max(1.0, seconds)
            for waiter in self._senders:
                if not waiter.future.done():
                    self._reject(waiter, now)
            self._dispatch()
        return was_open

    def on_response(self, *, sent: bool) -> None:
        """A request is no longer in flight."""
        self._in_flight -= 1
        if sent and self._windows and self._loop is not None:
            now = self._loop.time()
            for window in self._windows:
                window.times.append(now)
            if self._senders:
                self._wake()

    def release_slot(self) -> None:
        """A slot is free again."""
        self._free += 1
        if self._senders or self._readers:
            self._wake()

    def _wake(self) -> None:
        """Grant what was given back. What has a slot may be dropped anywhere: in any thread."""
        loop = self._loop
        if asyncio._get_running_loop() is loop:  # noqa: SLF001 - documented, and quick
            self._dispatch()
        elif loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed: nobody waits any more
                loop.call_soon_threadsafe(self._dispatch)

    def _bind(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        elif asyncio._get_running_loop() not in {loop, None}:  # noqa: SLF001 - documented, and quick
            raise RuntimeError("this Limiter belongs to another event loop: give each its own")
        return loop

    def _opens(self, now: float) -> float:
        at = max(
            self._paused_until, self._next_send if now < self._paused_until + _RAMP else -math.inf
        )
        for window in self._windows:
            at = max(at, window.opens(now, self._in_flight))
        return at

    def _grant_send(self, now: float) -> Slot:
        self._free -= 1
        self._in_flight += 1
        if now < self._paused_until + _RAMP:
            self._next_send = now + _RAMP / self.concurrency
        return Slot(self, flying=True)

    def _grant_read(self) -> Slot:
        self._free -= 1
        return Slot(self, flying=False)

    def _waiter(
        self, patience: float = math.inf, budget: float = math.inf, deadline: float = math.inf
    ) -> _Waiter:
        self._ticket += 1
        future: asyncio.Future[Slot] = self._bind().create_future()
        closed = self.total_paused()
        return _Waiter(self._ticket, future, patience, budget, closed, deadline)

    def _reject(self, waiter: _Waiter, now: float) -> None:
        left = self._paused_until - now
        spent = self._closed - waiter.closed_before
        asked = self._extra + 1e-6  # what the platform did not ask for counts against nobody
        if (
            left - asked <= waiter.patience
            and spent - asked <= waiter.budget
            and self._paused_until - asked <= waiter.deadline
        ):
            return
        error = RateLimitError(
            f"the platform asked for a pause of which {left:.1f} s are left, longer than "
            "max_retry_after, max_throttled or the deadline around this request allow"
        )
        error.status = 429
        error.retry_after = left
        waiter.future.set_exception(error)

    async def _wait(self, waiter: _Waiter) -> Slot:
        self._dispatch()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            future = waiter.future
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().release(sent=False)  # granted, and cancelled before it woke
            else:
                self._cancelled_count += 1
                if self._cancelled_count > 64 and 2 * self._cancelled_count > len(
                    self._senders
                ) + len(self._readers):
                    self._remove_cancelled()
                self._dispatch()  # who stood behind it may be first now
            raise

    def _remove_cancelled(self) -> None:
        """Let go of cancelled waiters: those that do not reach the head would stay for long."""
        self._senders = deque(waiter for waiter in self._senders if not waiter.future.done())
        self._readers = deque(waiter for waiter in self._readers if not waiter.future.done())
        self._cancelled_count = 0

    def _dispatch(self) -> None:
        """Grant what can be granted, in the order of asking; then sleep until the next can."""
        if self._pumping:  # a collector has dropped who had a slot, in the middle of this
            self._pump_again = True
            return
        self._pumping = True
        try:
            self._pump_again = True
            while self._pump_again:
                self._pump_again = False
                self._grant()
        finally:
            self._pumping = False

    def _grant(self) -> None:
        now = self._bind().time()
        senders, readers = self._senders, self._readers
        while self._free:
            while senders and senders[0].future.done():
                senders.popleft()
            while readers and readers[0].future.done():
                readers.popleft()
            opens = self._opens(now) if senders else math.inf
            if opens <= now and not (readers and readers[0].ticket < senders[0].ticket):
                senders.popleft().future.set_result(self._grant_send(now))
            elif readers:
                readers.popleft().future.set_result(self._grant_read())
            else:
                self._wake_at(opens)
                return

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when < math.inf:
            self._timer = self._bind().call_at(when, self._dispatch)


def _check(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
