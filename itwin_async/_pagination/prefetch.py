"""Read-ahead: pages requested before their turn, and used only when a link confirms them."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from itwin_async._aio.loops import background
from itwin_async._core.operation import Request
from itwin_async._core.urls import skip_of, with_skip
from itwin_async._http.body import Body, read_whole
from itwin_async._http.executor import RequestExecutor
from itwin_async._http.rate_limiter import Slot
from itwin_async._pagination.list_context import ListContext, Reservation
from itwin_async.auth import Token
from itwin_async.errors import ITwinError, TransportError

_CHUNK_SIZE: Final = 256 * 1024  # bytes decoded before other tasks get a turn of the loop


class BufferedBody:
    """A body that was read whole, handed on in chunks so that decoding it stalls no other task."""

    def __init__(self, data: bytes, source: Body, reservation: Reservation) -> None:
        self._data = data
        self._position = 0
        self._source = source
        self._reservation = reservation
        self.request_id = source.request_id

    @property
    def content_type(self) -> str:
        """The content type of the response."""
        return self._source.content_type

    @property
    def date(self) -> str | None:
        """The header that says when the response was made, by the clock of who made it."""
        return self._source.date

    async def pull(self) -> bytes:
        """The next chunk, empty at the end."""
        if self._position >= len(self._data):
            self.close()
        elif self._position:
            await asyncio.sleep(0)
        chunk = self._data[self._position : self._position + _CHUNK_SIZE]
        self._position += _CHUNK_SIZE
        return chunk

    def close(self, error: BaseException | None = None) -> None:  # noqa: ARG002 - as of a `Body`
        """Forget the data and release its reservation."""
        self._data = b""
        self._reservation.release()


class PrefetchedPage:
    """One request sent ahead of its turn: sent once, read whole, dropped if anything goes wrong."""

    def __init__(
        self,
        executor: RequestExecutor,
        request: Request[Any],
        slot: Slot,
        token: Token,
        reservation: Reservation,
    ) -> None:
        self.target = request.target
        self._executor = executor
        self._request = request
        self._slot = slot
        self._token = token
        self._reservation = reservation
        executor.lifecycle.background.add(self)
        self._body: BufferedBody | None = None
        self._live: Body | None = None
        self._finished = asyncio.Event()
        self._sent = False
        self._task: asyncio.Task[None] | None = None  # an eager task runs before it is assigned
        self._task = background(self._run(), "read-ahead")
        self._task.add_done_callback(self._end)  # also where it is cancelled before it starts

    async def _run(self) -> None:
        executor = self._executor
        executor.instrumentation.prefetch_sent()
        self._sent = True
        operation = str(self._request.operation)
        span = executor.instrumentation.start_span(operation)
        try:
            live = self._live = await executor.attempt(
                self._request, operation, self._token, self._slot, span
            )
            data = await read_whole(live, self._grow_reservation)
            self._body = BufferedBody(data, live, self._reservation)
        except (ITwinError, RuntimeError) as error:
            if span is not None:  # otherwise ignored: the list requests the page in its turn
                span.end(error)
        finally:
            if span is not None:
                span.end(asyncio.CancelledError() if self._body is None else None)

    def _end(self, _: object = None) -> None:
        """Release everything but a body that was read, with its reservation."""
        self._executor.lifecycle.background.discard(self)
        self._slot.release()
        if self._body is None:
            self._reservation.release()
            if self._live is not None:
                self._live.close()
        self._live = None
        if not self._executor.lifecycle.binding.lost:
            self._finished.set()

    def _grow_reservation(self, size: int) -> None:
        """Reserve what a body of this size needs, or end the request."""
        if not self._reservation.grow_to(size):
            raise TransportError("there is no room to read ahead", "too large")

    async def body(self) -> Body | None:
        """Wait for the body, which owns its reservation; None if the request came to nothing.

        Awaits an event and not the task: if closing the session cancels the task, that must not
        look like a cancellation of the consumer.
        """
        try:
            await self._finished.wait()
        except BaseException:
            self.cancel()
            raise
        body, self._body = self._body, None
        return body

    @property
    def arriving(self) -> bool:
        """Whether its request is still in flight."""
        return not self._finished.is_set()

    def count_unused(self) -> None:
        """Count a request that was sent and whose page is not used, once."""
        if self._sent:
            self._sent = False
            self._executor.instrumentation.prefetch_unused()

    def cancel(self) -> None:
        """Cancel the request and release its slot and reservation, now."""
        self.count_unused()
        task, self._task = self._task, None
        if self._body is not None:
            self._body.close()
            self._body = None
        self._end()
        if task is not None and not self._executor.lifecycle.binding.lost:
            task.cancel()


class Prefetcher:
    """The read-ahead of one running list: windows that grow with it up to ``max_pages`` pages."""

    def __init__(
        self,
        context: ListContext,
        max_pages: int,
        request_for: Callable[[str], Request[Any]],
    ) -> None:
        self._executor = context.executor
        self._budget = context.budget
        self._max_pages = max_pages
        self._request_for = request_for
        self._known_pages = 1  # pages read since the last restart, and the one named by a link
        self._link: tuple[str, str] | None = None  # from the last page to the next
        self._page_size = 1  # of the last page, in bytes
        self._prefetched: deque[PrefetchedPage] = deque()

    def take(self, target: str, most: int | None) -> PrefetchedPage | None:
        """The prefetched page for a target that a link has just named, if there is one.

        While it is waited for it is no longer ahead: a full window has room for one more page. Not
        behind the second page, since lists of up to two pages waste nothing.
        """
        if not self._prefetched:
            return None
        page = self._prefetched.popleft()
        if page.target == target:
            full = self._known_pages >= max(self._max_pages, 3)
            if page.arriving and full and self._max_pages > 1:
                self.prefetch_speculatively(target, most, waiting=1)
            return page
        page.cancel()
        self.cancel()
        return None

    def shrink(self) -> None:
        """Restart with a small window: a prefetched page could not be used."""
        self._known_pages = 1

    def prefetch_next(
        self, current: str, next_target: str | None, size: int, most: int | None
    ) -> None:
        """Request what comes after the page at ``current``, which had ``size`` bytes.

        ``next_target`` is its next link. Later links are predicted by the `$skip` step between the
        two, since the server may send fewer items than it was asked for. No more than ``most``
        pages are ahead, if it is given.
        """
        if next_target is None:
            self.cancel()
            self._link = None
            return
        self._known_pages += 1
        self._page_size = max(size, 1)
        self._link = current, next_target
        if self._prefetched or self._has_idle_share():  # not while many lists run
            self._fill_window(next_target, most)

    def prefetch_speculatively(self, current: str, most: int | None, *, waiting: int = 0) -> None:
        """Request what will follow a page that is still arriving, by the last step.

        ``waiting`` counts the prefetched pages in flight that are no longer ahead.
        """
        skip, step = skip_of(current), self._step()
        if step and skip is not None:
            self._fill_window(with_skip(current, skip + step), most, waiting)

    def _step(self) -> int:
        """By how much `$skip` grew with the last link; 0 where it is not how pages are named."""
        if self._link is None:
            return 0
        before, after = map(skip_of, self._link)
        return 0 if after is None else max(0, after - (before or 0))

    def _fill_window(self, next_target: str, most: int | None, waiting: int = 0) -> None:
        executor, prefetched, size = self._executor, self._prefetched, self._page_size
        if not executor.breaker.clear:
            return  # during an outage only probes are sent
        if prefetched and prefetched[0].target != next_target:
            self.cancel()
        token = executor.tokens.usable(executor.external)
        skip, step = skip_of(next_target), self._step()
        predictable = step and skip is not None  # a continuation token names one page only
        window = min(self._window() if predictable else 1, self._max_pages)
        if most is not None:
            window = min(window, most)
        while token is not None and len(prefetched) < window and self._has_idle_share(waiting):
            target = next_target
            if prefetched and skip is not None:
                target = with_skip(next_target, skip + len(prefetched) * step)
            request = self._request_for(target)
            reservation = self._budget.reserve(size)
            if reservation is None:
                return
            slot = executor.limiter.acquire_idle()
            if slot is None:
                reservation.release()
                return
            prefetched.append(PrefetchedPage(executor, request, slot, token, reservation))

    def _window(self) -> int:
        """How many pages may be ahead: about as many as the list is known to have.

        Behind the first page that is the one its link names, so lists of up to two pages waste
        nothing, and others at most as many requests as they have pages. One more from six pages on
        makes it 12 pages in four round trips, as with windows that double with each page, which
        waste a third more (of 16 pages ahead).
        """
        known = self._known_pages
        return 1 if known <= 2 else known + (known > 5)

    def _has_idle_share(self, waiting: int = 0) -> bool:
        """Whether fewer requests are in flight than read-ahead is allowed, besides ``waiting``.

        The bound is for the limiter, not for each list: 200 lists keep it busy without read-ahead,
        and would waste a third of their requests past their ends.
        """
        return self._executor.limiter.in_use - waiting < self._max_pages

    def cancel(self) -> None:
        """Cancel every prefetched page, now, and restart with a small window."""
        self._known_pages = 1
        while self._prefetched:
            self._prefetched.pop().cancel()
