"""Read-ahead: pages asked for before their turn, and used only when a link has confirmed them."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from itwin_async._aio.loops import background
from itwin_async._core.operation import Request
from itwin_async._core.urls import skip_of, with_skip
from itwin_async._http.body import Body, read_whole
from itwin_async._http.executor import RequestExecutor
from itwin_async._http.rate_limiter import Slot
from itwin_async.auth import Token
from itwin_async.errors import ITwinError, TransportError

_PIECE: Final = 256 * 1024  # bytes decoded between two looks at the loop


class ReadAheadBudget:
    """Counts the bytes that read-ahead holds or has reserved, over all lists of a session."""

    __slots__ = ("limit", "reserved")

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self.reserved: int = 0

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more stay within the limit."""
        return self.reserved + size <= self.limit


@dataclass(frozen=True, slots=True, repr=False)
class ListContext:
    """What the lists of a session share: how requests are sent, and the budget for read-ahead."""

    executor: RequestExecutor
    budget: ReadAheadBudget


class Reservation:
    """Bytes of a read-ahead budget, reserved until they are released or nobody has this."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: ReadAheadBudget, size: int) -> None:
        self._budget = budget
        self._size = size
        budget.reserved += size

    def grow(self, size: int) -> bool:
        """Set aside so many in all; False where there is no room for more."""
        more = max(0, size - self._size)
        if not self._budget.has_room(more):
            return False
        self._size += more
        self._budget.reserved += more
        return True

    def release(self) -> None:
        """Give all of them back; nothing the second time."""
        size, self._size = self._size, 0
        self._budget.reserved -= size

    def __del__(self) -> None:
        self.release()


class BufferedBody:
    """A body that is in already, handed on in pieces so that decoding it stalls nobody."""

    def __init__(self, text: bytes, source: Body, room: Reservation) -> None:
        self._text = text
        self._at = 0
        self._source = source
        self._room = room
        self.request_id = source.request_id

    @property
    def content_type(self) -> str:
        """What the answer said it is."""
        return self._source.content_type

    async def pull(self) -> bytes:
        """The next piece, empty at the end."""
        if self._at >= len(self._text):
            self.close()
        elif self._at:
            await asyncio.sleep(0)
        piece = self._text[self._at : self._at + _PIECE]
        self._at += _PIECE
        return piece

    def close(self, error: BaseException | None = None) -> None:  # noqa: ARG002 - as of a `Body`
        """Forget it, and give back its room."""
        self._text = b""
        self._room.release()


class PrefetchedPage:
    """One request nobody asked for yet: sent once, read whole, dropped if anything goes wrong."""

    def __init__(
        self, context: ListContext, request: Request[Any], slot: Slot, token: Token, room: int
    ) -> None:
        executor = context.executor
        self.target = request.target
        self._executor = executor
        self._request = request
        self._slot = slot
        self._token = token
        self._room = Reservation(context.budget, room)
        executor.lifecycle.background.add(self)
        self._body: BufferedBody | None = None
        self._live: Body | None = None
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None  # eager tasks run before they are known
        self._task = background(self._run(), "read-ahead")
        self._task.add_done_callback(self._end)  # also of one that was cancelled before it began

    async def _run(self) -> None:
        executor = self._executor
        operation = str(self._request.operation)
        span = executor.instrumentation.start_span(operation)
        try:
            live = self._live = await executor.attempt(
                self._request, operation, self._token, self._slot, span
            )
            text = await read_whole(live, self._check_room)
            self._body = BufferedBody(text, live, self._room)
        except (ITwinError, RuntimeError) as error:
            if span is not None:  # nothing more: the page is asked for properly in its turn
                span.end(error)
        finally:
            if span is not None:
                span.end(asyncio.CancelledError() if self._body is None else None)

    def _end(self, _: object = None) -> None:
        """Give back what it has, but for a body that is in, and its room."""
        self._executor.lifecycle.background.discard(self)
        self._slot.release()
        if self._body is None:
            self._room.release()
            if self._live is not None:
                self._live.close()
        self._live = None
        if not self._executor.lifecycle.binding.lost:
            self._over.set()

    def _check_room(self, size: int) -> None:
        """Set aside what a body of this size needs, or end the guess."""
        if not self._room.grow(size):
            raise TransportError("there is no room to read ahead", "too large")

    async def body(self) -> Body | None:
        """The body once it is in, or None: then ask for the page properly. The room is its own now.

        Awaits an event, never the task: a task cancelled by closing the session would look like the
        consumer's own cancellation.
        """
        try:
            await self._over.wait()
        except BaseException:
            self.cancel()
            raise
        body, self._body = self._body, None
        return body

    def cancel(self) -> None:
        """Cancel it and give back its slot and room, now."""
        task, self._task = self._task, None
        if self._body is not None:
            self._body.close()
            self._body = None
        self._end()
        if task is not None and not self._executor.lifecycle.binding.lost:
            task.cancel()


class Prefetcher:
    """The guesses of one running list: windows of 1, 2, 4 … *most* pages, confirmed by links."""

    def __init__(
        self, context: ListContext, most: int, request_at: Callable[[str], Request[Any]]
    ) -> None:
        self._context = context
        self._most = most
        self._request_at = request_at
        self._window = 1
        self._step = 0  # of `$skip`, as last seen between a page and its next link
        self._size = 1  # of the last page, in bytes
        self._prefetched: deque[PrefetchedPage] = deque()

    def take(self, target: str) -> PrefetchedPage | None:
        """The guess for a page that a link has named just now."""
        if not self._prefetched:
            return None
        guess = self._prefetched.popleft()
        if guess.target == target:
            self._window = min(self._most, self._window * 2)
            return guess
        guess.cancel()
        self.cancel()
        return None

    def shrink(self) -> None:
        """Begin with small windows again: a guess came to nothing."""
        self._window = 1

    def plan(self, current: str, following: str | None, size: int) -> None:
        """Ask for what comes after the page at ``current``, of ``size`` bytes.

        ``following`` is its next link. Later ones are predicted by the step between the two, since
        the server may answer with fewer items than it was asked for.
        """
        skip = None if following is None else skip_of(following)
        self._step = 0 if skip is None else max(0, skip - (skip_of(current) or 0))
        self._size = max(size, 1)
        if following is None:
            self.cancel()
        else:
            self._ask(following)

    def prefetch_speculatively(self, current: str) -> None:
        """Ask for what will come after a large page that only begins, by the step seen so far."""
        skip = skip_of(current)
        if self._step and skip is not None:
            self._ask(with_skip(current, skip + self._step))

    def _ask(self, following: str) -> None:
        executor, guesses, size = self._context.executor, self._prefetched, self._size
        if not executor.breaker.clear:
            return  # during an outage probes alone are sent
        if guesses and guesses[0].target != following:
            self.cancel()
        token = executor.tokens.ready(executor.external, asyncio.get_running_loop().time())
        skip = skip_of(following)
        # A continuation token tells of one page only.
        window = min(self._window if self._step and skip is not None else 1, self._most)
        while token is not None and len(guesses) < window:
            if not self._context.budget.has_room(size):
                return
            target = following
            if guesses and skip is not None:
                target = with_skip(following, skip + len(guesses) * self._step)
            request = self._request_at(target)
            slot = executor.limiter.acquire_idle()
            if slot is None:
                return
            guesses.append(PrefetchedPage(self._context, request, slot, token, size))

    def cancel(self) -> None:
        """Drop every guess, now, and begin with small windows again."""
        self._window = 1
        while self._prefetched:
            self._prefetched.pop().cancel()
