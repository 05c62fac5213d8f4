"""Rate limiter of a session: one queue that grants slot, rate windows and pause together.

Why one queue: docs/adr/0002.
"""

import asyncio
import contextlib
import math
from collections import deque
from typing import Final

from itwin_async._aio.timeouts import visible_deadline
from itwin_async._http.pause import Pause, WaitLimits
from itwin_async._http.rate_window import RateWindow


class Slot:
    """The right to have one request under way. It may be released from any thread, once."""

    __slots__ = ("_held", "_in_flight", "_limiter")

    def __init__(self, limiter: "RateLimiter", *, in_flight: bool) -> None:
        self._limiter = limiter
        self._in_flight = in_flight
        self._held = True

    def on_response(self) -> None:
        """Count the request as sent now: it leaves the rate windows with time from here on."""
        if self._in_flight:
            self._in_flight = False
            self._limiter.on_response(sent=True)

    def release(self, *, sent: bool = True) -> None:
        """Give the slot back; ``sent=False`` if the request was never sent."""
        if self._in_flight:
            self._in_flight = False
            self._limiter.on_response(sent=sent)
        if self._held:
            self._held = False
            self._limiter.release_slot()


class _Waiter(WaitLimits, eq=False):
    ticket: int
    future: "asyncio.Future[Slot]"


class RateLimiter:
    """Grants slots for requests, first come, first served; the engine of a `Limiter`.

    Belongs to the event loop that uses it first.
    """

    def __init__(self, concurrency: int, per_minute: int | None, per_hour: int | None) -> None:
        self.concurrency: Final = concurrency
        self._windows = [
            RateWindow(span, limit)
            for span, limit in ((60.0, per_minute), (3_600.0, per_hour))
            if limit is not None
        ]
        self._free = concurrency
        self._in_flight = 0
        self._pause = Pause()
        self._senders: deque[_Waiter] = deque()
        self._readers: deque[_Waiter] = deque()
        self._ticket = 0
        self._cancelled_count = 0  # cancelled waiters that may still be in a queue
        self._dispatching = self._dispatch_again = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def in_use(self) -> int:
        """Slots that are taken now."""
        return self.concurrency - self._free

    @property
    def waiting(self) -> int:
        """Requests that wait now for a slot, a rate window or the end of a pause."""
        return sum(
            not waiter.future.done() for queue in (self._senders, self._readers) for waiter in queue
        )

    def paused_for(self) -> float:
        """Seconds until the end of the pause; 0 without one."""
        return 0.0 if self._loop is None else self._pause.left(self._loop.time())

    def total_paused(self) -> float:
        """Seconds of all pauses so far."""
        return self._pause.total - self.paused_for()

    async def acquire(self, max_wait: float = math.inf, max_total_wait: float = math.inf) -> Slot:
        """Wait for a slot to send one request, until rate windows and pauses allow it as well.

        Raises `RateLimitError` at once when a pause has more than ``max_wait`` seconds left, ends
        after a visible anyio deadline, or would make this call wait for pauses for more than
        ``max_total_wait`` seconds.
        """
        slot = self.acquire_now()
        if slot is not None:
            return slot
        now = self._bind().time()
        deadline = visible_deadline()
        waiter = self._waiter(max_wait, max_total_wait, deadline)
        if self._pause.until > now:
            self._reject(waiter, now)
        self._senders.append(waiter)
        return await self._wait(waiter)

    def acquire_now(self) -> Slot | None:
        """A slot to send one request if there is no wait for it, else None."""
        if not self._free or self._senders or self._readers:
            return None
        now = self._bind().time()
        return self._grant_send(now) if self._sendable_at(now) <= now else None

    async def acquire_read(self) -> Slot:
        """Wait for a slot to go on reading a body; rate windows and pauses do not matter to it."""
        self._bind()
        if self._free and not self._senders and not self._readers:
            return self._grant_read()
        waiter = self._waiter()
        self._readers.append(waiter)
        return await self._wait(waiter)

    def acquire_idle(self) -> Slot | None:
        """A slot for a prefetch, or None unless capacity is idle and nobody waits."""
        now = self._bind().time()
        if (
            self._free < 2  # reserve one slot for foreground requests
            or self._senders
            or self._readers
            or now < self._pause.no_prefetch_until
            or self._sendable_at(now) > now
            or any(
                window.remaining(now, self._in_flight) <= self.concurrency
                for window in self._windows
            )
        ):
            return None
        return self._grant_send(now)

    def pause(self, seconds: float) -> bool:
        """Send nothing for so long, unless a longer pause is running; whether none was running.

        Waiters whose limits the pause exceeds are rejected now.
        """
        now = self._bind().time()
        is_new = self._pause.until <= now
        if self._pause.extend(now, seconds):
            for waiter in self._senders:
                if not waiter.future.done():
                    self._reject(waiter, now)
            self._dispatch()
        return is_new

    def on_response(self, *, sent: bool) -> None:
        """Take a request out of those in flight, and count it in the windows if it was sent."""
        self._in_flight -= 1
        if sent and self._windows and self._loop is not None:
            now = self._loop.time()
            for window in self._windows:
                window.times.append(now)
            if self._senders:
                self._wake()

    def release_slot(self) -> None:
        """Free a slot."""
        self._free += 1
        if self._senders or self._readers:
            self._wake()

    def _wake(self) -> None:
        """Dispatch, in the thread of the loop: a collector may drop a slot in any thread."""
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

    def _sendable_at(self, now: float) -> float:
        """When a request may be sent, as far as pauses and rate windows are concerned."""
        pause = self._pause
        if not self._windows and now >= pause.ramp_end:
            return now  # as nearly always
        at = pause.sendable_at(now)
        for window in self._windows:
            at = max(at, window.available_at(now, self._in_flight))
        return at

    def _grant_send(self, now: float) -> Slot:
        self._free -= 1
        self._in_flight += 1
        if now < self._pause.ramp_end:
            self._pause.on_send(now, self.concurrency)
        return Slot(self, in_flight=True)

    def _grant_read(self) -> Slot:
        self._free -= 1
        return Slot(self, in_flight=False)

    def _waiter(
        self,
        max_wait: float = math.inf,
        max_total_wait: float = math.inf,
        deadline: float = math.inf,
    ) -> _Waiter:
        self._ticket += 1
        future: asyncio.Future[Slot] = self._bind().create_future()
        paused = self.total_paused()
        return _Waiter(max_wait, max_total_wait, deadline, paused, self._ticket, future)

    def _reject(self, waiter: _Waiter, now: float) -> None:
        """Raise `RateLimitError` in a waiter whose limits the pause exceeds."""
        error = self._pause.rejection(waiter, now)
        if error is not None:
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
                self._dispatch()  # the next in the queue may be first now
            raise

    def _remove_cancelled(self) -> None:
        """Drop cancelled waiters from the queues: in the middle they would stay for long."""
        self._senders = deque(waiter for waiter in self._senders if not waiter.future.done())
        self._readers = deque(waiter for waiter in self._readers if not waiter.future.done())
        self._cancelled_count = 0

    def _dispatch(self) -> None:
        """Grant all that can be granted, in the order of asking; set the timer for the next."""
        if self._dispatching:  # a collector dropped a slot in the middle of this
            self._dispatch_again = True
            return
        self._dispatching = True
        try:
            self._dispatch_again = True
            while self._dispatch_again:
                self._dispatch_again = False
                self._grant()
        finally:
            self._dispatching = False

    def _grant(self) -> None:
        now = self._bind().time()
        senders, readers = self._senders, self._readers
        while self._free:
            while senders and senders[0].future.done():
                senders.popleft()
            while readers and readers[0].future.done():
                readers.popleft()
            sendable_at = self._sendable_at(now) if senders else math.inf
            if sendable_at <= now and not (readers and readers[0].ticket < senders[0].ticket):
                senders.popleft().future.set_result(self._grant_send(now))
            elif readers:
                readers.popleft().future.set_result(self._grant_read())
            else:
                self._wake_at(sendable_at)
                return

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when < math.inf:
            self._timer = self._bind().call_at(when, self._dispatch)
